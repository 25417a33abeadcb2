import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// The platform serves these files under `script-src 'self'; style-src 'self'`: nothing may be inlined.
export default defineConfig({
  plugins: [react()],
  build: {
    outDir: "../src/fleetward/programs/server/console",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2023",
    reportCompressedSize: false,
    manifest: "manifest.json",
  },
  test: { include: ["src/**/*.test.ts"], environment: "node" },
});
