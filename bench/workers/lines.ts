/**
 * Lines of a stream of bytes.
 *
 * @module
 */

/** Turns bytes into lines, without their ends. */
export class TextLineStream extends TransformStream<Uint8Array, string> {
  /** Creates the stream. */
  constructor() {
    const decoder = new TextDecoder();
    let rest = "";
    super({
      transform(chunk, controller) {
        const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
        rest = lines.pop()!;
        for (const line of lines) controller.enqueue(line);
      },
      flush(controller) {
        if (rest !== "") controller.enqueue(rest);
      },
    });
  }
}
