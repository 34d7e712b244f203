/**
 * The files that checks look at.
 *
 * @module
 */

/** All files below some folders, by their paths from the project's folder, in order. */
export async function filesBelow(...folders: readonly string[]): Promise<string[]> {
  const files: string[] = [];
  for (const folder of folders) {
    for await (const { name, isDirectory } of Deno.readDir(folder)) {
      const path = `${folder}/${name}`;
      if (isDirectory) files.push(...await filesBelow(path));
      else files.push(path);
    }
  }
  return files.sort();
}
