// Plays one view: sends the ticket, feeds fragments to the browser's decoder, stays close to now.
"use strict";

const MAX_BEHIND_S = 1.0;
const KEPT_S = 10;
const video = document.getElementById("video");
const device = decodeURIComponent(location.pathname.split("/").pop());
const ticket = location.hash.slice(1);

function show(state, text) {
  const status = document.getElementById("status");
  status.dataset.state = state;
  status.textContent = text;
  document.documentElement.dataset.state = state;
}

function put(id, text) {
  document.getElementById(id).textContent = text;
}

function play(codec, socket) {
  const source = new MediaSource();
  const waiting = [];
  let buffer = null;
  video.src = URL.createObjectURL(source);
  const pump = () => {
    if (!buffer || buffer.updating || source.readyState !== "open") return;
    if (buffer.buffered.length && video.currentTime - buffer.buffered.start(0) > 2 * KEPT_S) {
      buffer.remove(0, video.currentTime - KEPT_S);
    } else if (waiting.length) {
      buffer.appendBuffer(waiting.shift());
    }
  };
  source.addEventListener("sourceopen", () => {
    buffer = source.addSourceBuffer(`video/mp4; codecs="${codec}"`);
    buffer.addEventListener("updateend", () => { catchUp(buffer); pump(); });
    pump();
  }, { once: true });
  socket.addEventListener("message", (event) => { waiting.push(event.data); pump(); });
  video.play().catch(() => show("waiting", "Press play"));
}

function catchUp(buffer) {
  if (!buffer.buffered.length) return;
  const start = buffer.buffered.start(0);
  const end = buffer.buffered.end(buffer.buffered.length - 1);
  if (video.currentTime < start) video.currentTime = start;
  if (end - video.currentTime > MAX_BEHIND_S) video.currentTime = end - 0.1;
  put("delay", `${Math.max(0, end - video.currentTime).toFixed(2)} s`);
}

function open() {
  document.title = `${device}, live view`;
  put("device", device);
  video.setAttribute("aria-label", `Live view of ${device}`);
  if (!ticket) {
    show("ended", "No ticket: ask for a view again");
    return;
  }
  history.replaceState(null, "", location.pathname);
  const socket = new WebSocket(`wss://${location.host}/api/v1/media/view`);
  socket.binaryType = "arraybuffer";
  socket.addEventListener("open", () => socket.send(ticket));
  socket.addEventListener("message", (event) => {
    const opened = JSON.parse(event.data);
    put("codec", opened.codec);
    put("ends", new Date(opened.expires_at).toLocaleTimeString());
    play(opened.codec, socket);
  }, { once: true });
  video.addEventListener("playing", () => show("live", "Live"));
  socket.addEventListener("close", (event) => {
    show("ended", event.reason || `Ended (${event.code})`);
    video.pause();
  });
}

open();
