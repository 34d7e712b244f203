/**
 * A form of a page, as a browser reads and sends it.
 *
 * @module
 */

const marks: Readonly<Record<string, string>> = {
  amp: "&",
  lt: "<",
  gt: ">",
  quot: '"',
  "#39": "'",
};

function unescaped(text: string): string {
  return text.replaceAll(/&(amp|lt|gt|quot|#39);/g, (_, name) => marks[name]!);
}

/** What a browser sends of the first form whose HTML matches. A text field has no line breaks. */
export function formOf(page: string, which: RegExp): Record<string, string> {
  const form = [...page.matchAll(/<form.*?<\/form>/gs)].map(([text]) => text)
    .find((text) => which.test(text));
  if (form === undefined) throw new Error(`no form has ${which}: ${page}`);
  const sent: Record<string, string> = {};
  for (const [, attributes] of form.matchAll(/<input ([^>]*)>/g)) {
    const [, name] = /name="([^"]*)"/.exec(attributes!) ?? [];
    const value = unescaped(/value="([^"]*)"/.exec(attributes!)?.[1] ?? "");
    const isHidden = attributes!.includes('type="hidden"');
    if (name !== undefined) sent[name] = isHidden ? value : value.replaceAll(/[\r\n]/g, "");
  }
  for (const [, name, text] of form.matchAll(/<textarea name="([^"]*)"[^>]*>([^<]*)</g)) {
    sent[name!] = unescaped(text!);
  }
  return Object.fromEntries(
    Object.entries(sent).map(([name, value]) => [name, value.replaceAll(/\r?\n/g, "\r\n")]),
  );
}
