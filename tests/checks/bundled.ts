/**
 * What a program of its own would load of a public module: one file, minified and compressed.
 *
 * @module
 */

/** Sizes in bytes. */
export interface BundleSize {
  readonly minified: number;
  readonly gzipped: number;
}

/** Bundles a module with all that it imports, packages of npm too. */
export async function bundleSize(path: string): Promise<BundleSize> {
  const { code, stdout, stderr } = await new Deno.Command("deno", {
    args: ["bundle", "--quiet", "--no-lock", "--minify", "--platform=deno", path],
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  if (code !== 0) throw new Error(`deno bundle ${path}: ${new TextDecoder().decode(stderr)}`);
  const packed = new Blob([stdout]).stream().pipeThrough(new CompressionStream("gzip"));
  return {
    minified: stdout.byteLength,
    gzipped: (await new Response(packed).arrayBuffer()).byteLength,
  };
}
