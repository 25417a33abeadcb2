/** Plays one view: sends the ticket, feeds fragments to the browser's decoder, stays close to now. */

const MAX_BEHIND_S = 1.0;
const KEPT_S = 10;

export interface PlayerState {
  phase: "opening" | "live" | "ended";
  text: string;
  codec?: string;
  expiresAt?: string;
  behindS?: number;
}

/** Play into `video` until the returned function is called or the platform ends the view. */
export function playView(video: HTMLVideoElement, ticket: string, tell: (change: Partial<PlayerState>) => void): () => void {
  const socket = new WebSocket(`wss://${location.host}/api/v1/media/view`);
  socket.binaryType = "arraybuffer";
  const onPlaying = () => tell({ phase: "live", text: "Live" });
  video.addEventListener("playing", onPlaying);
  socket.addEventListener("open", () => socket.send(ticket));
  socket.addEventListener(
    "message",
    (event: MessageEvent<string>) => {
      const opened = JSON.parse(event.data) as { codec: string; expires_at: string };
      tell({ codec: opened.codec, expiresAt: opened.expires_at });
      feed(video, socket, opened.codec, tell);
    },
    { once: true },
  );
  socket.addEventListener("close", (event) => {
    tell({ phase: "ended", text: event.reason || `Ended (${event.code})` });
    video.pause();
  });
  return () => {
    video.removeEventListener("playing", onPlaying);
    socket.close();
    if (video.src !== "") URL.revokeObjectURL(video.src);
    video.removeAttribute("src");
  };
}

function feed(video: HTMLVideoElement, socket: WebSocket, codec: string, tell: (change: Partial<PlayerState>) => void): void {
  const source = new MediaSource();
  const waiting: ArrayBuffer[] = [];
  let buffer: SourceBuffer | null = null;
  const pump = () => {
    if (buffer === null || buffer.updating || source.readyState !== "open") return;
    if (buffer.buffered.length > 0 && video.currentTime - buffer.buffered.start(0) > 2 * KEPT_S) {
      buffer.remove(0, video.currentTime - KEPT_S);
      return;
    }
    const next = waiting.shift();
    if (next !== undefined) buffer.appendBuffer(next);
  };
  video.src = URL.createObjectURL(source);
  source.addEventListener(
    "sourceopen",
    () => {
      const opened = source.addSourceBuffer(`video/mp4; codecs="${codec}"`);
      buffer = opened;
      opened.addEventListener("updateend", () => {
        const behindS = catchUp(video, opened);
        if (behindS !== null) tell({ behindS });
        pump();
      });
      pump();
    },
    { once: true },
  );
  socket.addEventListener("message", (event: MessageEvent<ArrayBuffer>) => {
    waiting.push(event.data);
    pump();
  });
  video.play().catch(() => tell({ text: "Press play" }));
}

/** Skip what lies too far behind; return how far behind now the picture is. */
function catchUp(video: HTMLVideoElement, buffer: SourceBuffer): number | null {
  if (buffer.buffered.length === 0) return null;
  const start = buffer.buffered.start(0);
  const end = buffer.buffered.end(buffer.buffered.length - 1);
  if (video.currentTime < start) video.currentTime = start;
  if (end - video.currentTime > MAX_BEHIND_S) video.currentTime = end - 0.1;
  return Math.max(0, end - video.currentTime);
}
