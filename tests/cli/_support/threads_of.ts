/** Prints how many Web Workers a process has, on Linux. Deno 2.9 lets a process read /proc only with all rights. */

let workers = 0;
const tasks = `/proc/${Deno.args[0]}/task`;
for await (const { name } of Deno.readDir(tasks)) {
  const comm = await Deno.readTextFile(`${tasks}/${name}/comm`).catch(() => "");
  if (comm.startsWith("worker-")) workers++;
}
console.log(workers);
