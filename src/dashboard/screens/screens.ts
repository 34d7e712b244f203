/**
 * All screens, by their paths.
 *
 * @module
 */

import type { Screen } from "../view.ts";
import { consumer } from "./consumer.ts";
import { consumers } from "./consumers.ts";
import { dead } from "./dead.ts";
import { log } from "./log.ts";
import { notification } from "./notification.ts";
import { later, watches } from "./watches.ts";
import { overview } from "./overview.ts";
import { audit, server } from "./server.ts";
import { relays } from "./relays.ts";
import { anew, replay, seek, sure } from "./sure.ts";
import { workers } from "./workers.ts";

/** Every screen. */
export const screens: Readonly<Record<string, Screen | undefined>> = Object.assign(
  Object.create(null),
  {
    "/": overview,
    "/consumers": consumers,
    "/consumer": consumer,
    "/log": log,
    "/notification": notification,
    "/dead": dead,
    "/watches": watches,
    "/later": later,
    "/relays": relays,
    "/workers": workers,
    "/server": server,
    "/audit": audit,
    "/sure": sure,
    "/seek": seek,
    "/replay": replay,
    "/anew": anew,
  } satisfies Record<string, Screen>,
);
