/** A QR code the platform drew. As an image, so that whatever the SVG holds cannot act in this page. */
export function Qr({ svg }: { svg: string }) {
  return (
    <div className="qr">
      <img alt="QR code for your authenticator app" src={`data:image/svg+xml,${encodeURIComponent(svg)}`} />
    </div>
  );
}
