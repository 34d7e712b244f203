/**
 * Durable LISTEN/NOTIFY for PostgreSQL.
 *
 * {@linkcode notify} stores a notification in a log, inside your own transaction. A
 * {@linkcode Consumer} reads the log live, and replays what it missed after any absence.
 * {@linkcode watch} publishes the changes of a table.
 *
 * @example
 * ```ts
 * import { connect, Consumer, notify } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * await notify(db, "orders", { id: 42 });
 *
 * const consumer = new Consumer(db, {
 *   id: "billing",
 *   channels: ["orders"],
 *   handle(notification) {
 *     console.log(notification.id, notification.payload);
 *   },
 * });
 * await consumer.run();
 * ```
 *
 * @module
 */

// Table changes.
export type {
  Change,
  ChangeFacts,
  ChangeGuards,
  ChangeMetadata,
  Column,
  DeleteChange,
  InsertChange,
  OversizedChange,
  SnapshotChange,
  TruncateChange,
  UpdateChange,
  WatchPayload,
} from "./src/changes/change.ts";
export { setContext } from "./src/changes/context.ts";
export type {
  AnyWatched,
  LockOptions,
  ToldByWatched,
  WatchDefinition,
  WatchOperation,
  WatchOptions,
} from "./src/changes/options.ts";
export type { SnapshotOptions, SnapshotProgress, SnapshotResult } from "./src/changes/snapshot.ts";
export { rewatch, unwatch, watch, type WatchResult } from "./src/changes/watch.ts";
export { unwatchSql, watchSql } from "./src/changes/watch_sql.ts";
export { watched, type WatchedOptions } from "./src/changes/watched.ts";
export type { ChangeOf, IdOf, IsOne, UncheckedPart, Watched } from "./src/changes/watched_table.ts";
export { watches, type WatchStatus } from "./src/changes/watches.ts";
// Typed channels.
export { channel } from "./src/channels/channel.ts";
export type {
  AnyChannel,
  Channel,
  ChannelInput,
  ChannelKey,
  ChannelName,
  ChannelOutput,
} from "./src/channels/kind.ts";
export {
  type By,
  type ChannelHandler,
  type EventOptions,
  type Handlers,
  on,
} from "./src/channels/on.ts";
export type {
  SchemaInput,
  SchemaOutput,
  StandardIssue,
  StandardResult,
  StandardSchema,
} from "./src/standard_schema.ts";
// Consumers.
export { Consumer } from "./src/consume/consumer.ts";
export {
  type ChangeAction,
  type LogRow,
  Notification,
  type Place,
} from "./src/consume/notification.ts";
export type {
  Around,
  AroundBatch,
  BatchHandler,
  Handled,
  Handler,
  HandlerContext,
  HandlingWorker,
} from "./src/consume/handler.ts";
export type { KeyLimitOptions, LimitOptions, RateOptions } from "./src/consume/limit_options.ts";
export type {
  ChannelGiven,
  ChannelStart,
  ConsumerFilter,
  ConsumerOptions,
  HandlesChannels,
} from "./src/consume/options.ts";
export type { ErrorKind, RetryDecision, RetryOptions } from "./src/consume/retry_options.ts";
export { DeadLetter, NewerVersion, RetryAfter } from "./src/consume/retry.ts";
export type { DrainOptions, RunOptions } from "./src/consume/run_options.ts";
export type { LogPlace, StartFrom } from "./src/consume/start.ts";
export { subscribe } from "./src/consume/subscribe.ts";
export type {
  SubscribeOptions,
  SubscriptionGap,
  SubscriptionResume,
} from "./src/consume/subscribe_options.ts";
export type { ConnectOptions } from "./src/database/connect_options.ts";
export { connect, Database } from "./src/database/database.ts";
export type { Duration } from "./src/duration.ts";
export type { Queryable, QueryResult } from "./src/database/queryable.ts";
export { HarkError, type HarkErrorCode, type HarkErrorOptions } from "./src/errors.ts";
// Operations: status, moving and pausing consumers, dead letters, removing old notifications.
export {
  cleanup,
  type CleanupOptions,
  type CleanupProgress,
  type CleanupResult,
  type DroppedConsumer,
} from "./src/operate/cleanup.ts";
export {
  check,
  type CheckCause,
  type CheckOptions,
  type CheckResult,
} from "./src/operate/check.ts";
export { doctor, type DoctorOptions, type Finding } from "./src/operate/doctor/doctor.ts";
export {
  type ConsumerDetails,
  consumerDetails,
  consumers,
  type PartitionStatus,
  type PendingReplay,
  type WaitingNotification,
  type WorkerStatus,
} from "./src/operate/consumers.ts";
export {
  type DelayedNotification,
  delayedNotifications,
  type DelayedOptions,
} from "./src/operate/delayed.ts";
export {
  deleteNotifications,
  type Deletion,
  type DeletionChoice,
  type DeletionOptions,
  type DeletionResult,
  deletions,
  type DeletionsOptions,
} from "./src/operate/delete.ts";
export {
  type LogChannel,
  type LogChannels,
  logChannels,
  type LogChannelsOptions,
} from "./src/operate/log_channels.ts";
export {
  type ConsumerVerdict,
  notification,
  type NotificationDetails,
  type Verdict,
} from "./src/operate/notification.ts";
export {
  type LogFilter,
  type LoggedNotification,
  notifications,
  type NotificationsOptions,
  type NotificationsPage,
} from "./src/operate/notifications.ts";
export { pause, removeConsumer, resume, setPartitions } from "./src/operate/pause.ts";
export {
  type DeadLetterFilter,
  type DeadLetterOptions,
  deadLetters,
  type DeadNotification,
} from "./src/operate/dead.ts";
export {
  discard,
  type FailureChoice,
  type FailureOptions,
  retry,
  type Whereabouts,
} from "./src/operate/retry.ts";
export {
  retention,
  type RetentionOptions,
  type RetentionSetting,
  setRetention,
  unsetRetention,
} from "./src/operate/retention.ts";
export type { HoldingConsumer, HoldingReason } from "./src/operate/holding.ts";
export { type ReplayedId, replayIds, type ReplayIdsOptions } from "./src/operate/replay_ids.ts";
export {
  type Schedule,
  schedule,
  type ScheduleOptions,
  schedules,
  type SchedulesStatus,
  unschedule,
} from "./src/operate/schedules.ts";
export {
  type Replay,
  replay,
  type ReplayOptions,
  seek,
  type SeekResult,
} from "./src/operate/seek.ts";
export type {
  ConsumerStatus,
  FailingNotification,
  HaltedPartition,
  NewerNotifications,
  SleepingWorkers,
} from "./src/operate/consumer_status.ts";
export {
  type DelayedStatus,
  type LogStatus,
  type Status,
  status,
  type StatusOptions,
} from "./src/operate/status.ts";
export type { InboxStatus } from "./src/inbox/status.ts";
export type { FailingEndpoint, RelayStatus } from "./src/operate/relays.ts";
export { cancelDelayed } from "./src/publish/cancel.ts";
export type { DedupeOptions, LaterOptions } from "./src/publish/later.ts";
export {
  type CompleteNotification,
  type NewNotification,
  notify,
  notifyEach,
  notifyMany,
  notifyOnce,
  type NotifyOnceOptions,
  type NotifyOptions,
  type Published,
} from "./src/publish/notify.ts";
export {
  installedVersion,
  migrate,
  type MigrateResult,
  requireSchema,
  schemaSql,
} from "./src/schema/migrate.ts";
export { schemaVersion } from "./src/schema/version.ts";
export { type LeftWatch, uninstall, type UninstallResult } from "./src/schema/uninstall.ts";
