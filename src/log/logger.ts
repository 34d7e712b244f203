/**
 * Hark's logger: LogTape, and standard error for as long as no program has configured LogTape.
 *
 * @module
 */

import { getLogger as getLogTape, inspectLogger, type Logger } from "@logtape/logtape";
import { earlierLines, type Facts, keysOf, lines, notPrinted } from "./text.ts";
import { Thinning } from "./thinning.ts";

/** What Hark logs with: sentences with `{names}` of facts. */
export interface HarkLogger {
  /** For work on Hark itself. */
  debug(sentence: string, facts?: Facts): void;
  /** For information. */
  info(sentence: string, facts?: Facts): void;
  /** For the end of trouble that was warned of. It is information, and is printed where warnings are. */
  over(sentence: string, facts?: Facts): void;
  /** For trouble that passes by itself. */
  warn(sentence: string, facts?: Facts): void;
  /** For failures, and for trouble that stays. */
  error(sentence: string, facts?: Facts): void;
}

const thinning = new Thinning<{ readonly sentence: string; readonly facts: Facts }>();
let isHintPrinted = false;

const hint =
  "hark: warnings and errors are printed here until the program configures LogTape (https://logtape.org). " +
  'To print nothing: configureSync({ sinks: {}, loggers: [{ category: "logtape", sinks: [] }] })';

/**
 * The logger of a category. Its records go to LogTape. LogTape drops them if the program has
 * not configured it. Then warnings and errors are printed, so that no failure is silent.
 */
export function getLogger(
  category: readonly ["hark", string, ...string[]],
): HarkLogger {
  const logger = getLogTape(category);
  return {
    debug: (sentence, facts = {}) => logger.debug(sentence, facts),
    info: (sentence, facts = {}) => logger.info(sentence, facts),
    over(sentence, facts = {}) {
      logger.info(sentence, facts);
      if (!isConfigured(logger)) print(sentence, facts);
    },
    warn(sentence, facts = {}) {
      logger.warn(sentence, facts);
      if (!isConfigured(logger)) print(sentence, facts);
    },
    error(sentence, facts = {}) {
      logger.error(sentence, facts);
      if (!isConfigured(logger)) print(sentence, facts);
    },
  };
}

/**
 * Whether a program has configured LogTape, for whatever category. A program may have another copy
 * of LogTape: all copies share their loggers, but older ones do not share that they are configured.
 */
function isConfigured(logger: Logger): boolean {
  const { source, sinkPaths } = inspectLogger(logger);
  return source !== "unconfigured" || sinkPaths.length > 0;
}

function print(sentence: string, facts: Facts): void {
  const what = { sentence, facts };
  const admitted = thinning.admit(keysOf(sentence, facts), performance.now(), what);
  if (admitted === undefined) return;
  for (const line of lines(sentence, facts, admitted)) console.error(line);
  if (isHintPrinted) return;
  isHintPrinted = true;
  console.error(hint);
}

/**
 * A notification is handled or given up. What was not printed about it is not told later: it would
 * contradict what has happened since.
 */
export function settled(consumer: string, id: number): void {
  thinning.settled(consumer, id);
}

/**
 * Tells what was left out since the last record like it. For the end of a run: the program may end
 * too, and nothing would be printed after it.
 */
export function printLeftOut(): void {
  const { last, others } = thinning.takeHidden();
  if (isConfigured(getLogTape("hark"))) return;
  for (const [{ sentence, facts }, alike] of last) {
    for (const line of earlierLines(sentence, facts, alike)) console.error(line);
  }
  if (others > 0) console.error(notPrinted(others));
}
