-- Every table, type, index, sequence, view and policy of the schema, as a new install makes them. A later
-- version that changes one of them changes it here. It also adds a file to upgrades/, for databases that have
-- the older one.

create schema hark;
comment on schema hark is 'Durable LISTEN/NOTIFY: a log of notifications and the consumers that read it.';

-- The version of these tables and of the functions beside them, in one row. `functions` is a digest of all
-- the SQL. A program of the same version with other functions installs its own.
create table hark.schema_version (
  singleton boolean primary key default true check (singleton),
  version text not null,
  functions text not null,
  changed_at timestamptz not null default clock_timestamp()
);

-- Which rights each role was given. An upgrade grants each role the functions that its programs need from
-- then on (rights.sql). A role may get another name. A restored dump has the numbers of another server's roles, so it
-- goes by names. Not regrole: a dump could not be restored where a role is missing.
create table hark.grants (
  role oid,
  role_name text not null,
  kind text check (kind in ('publish', 'read', 'consume', 'operate', 'observe')),
  server bigint,                     -- the system identifier of the server that has the role by this number
  primary key (server, role, kind)
);

-- The identity of this install, and of the server that its transaction numbers belong to. After a dump and
-- restore, the numbers stored in the log mean nothing to the new server: see hark.rebase().
create table hark.install (
  singleton boolean primary key default true check (singleton),
  id uuid not null default gen_random_uuid(),
  system_identifier bigint not null,
  rebased_through bigint not null default 0,
  -- The xmin of this row when it was written. pg_upgrade copies files and keeps transaction numbers, so the
  -- row still has this xmin. A restore inserts the row anew, so its xmin differs.
  written_by xid
);
insert into hark.install (system_identifier)
select system_identifier from pg_control_system();
update hark.install i set written_by = i.xmin;

-- Unlogged on purpose: PostgreSQL empties it in crash recovery. After a crash the server gives out again the
-- transaction numbers that had not reached the disk. A mark in a process's memory may then count notifications as
-- read that no reader has read. Each mark carries this id, its life, and what was cut in another life is looked
-- at twice (hark.survives). This also works behind a pooler that hides the lost connection.
create unlogged table hark.incarnation (
  singleton boolean primary key default true check (singleton),
  id uuid not null default gen_random_uuid()
);

-- The transaction number is the first column, so that every insert takes it before it draws the id. Reading
-- rests on that order (read/marks.sql).
--
-- No CHECK constraints: each insert parses, plans and prepares those of a table anew, 10 of its 17 us here.
-- The functions that insert check their arguments in their own plans instead. They refuse invalid ones with a
-- constraint's name (hark.refuse). So does hark.notify_at, for rows that are moved here.
--
-- The log is divided by ranges of ids into segments, which hark.add_segments makes (operate/segments.sql). The
-- overflow segment hark.log_overflow takes ids that no other segment covers.
create table hark.log (
  xid xid8 not null default pg_current_xact_id(),
  id bigint generated always as identity (cache 1) primary key,
  channel text not null,
  key text,
  payload jsonb not null,
  headers jsonb,
  created_at timestamptz not null default clock_timestamp()
) partition by range (id);
comment on table hark.log is
  'Notifications. Append-only: publish with hark.notify, remove with hark cleanup.';
create table hark.log_0 (like hark.log including defaults);
alter table hark.log attach partition hark.log_0 for values from (minvalue) to (1000000);
create table hark.log_overflow partition of hark.log default;

-- Generated triggers insert many notifications here in one statement. The columns that order reading (xid,
-- id) are not in the view, so no role can forge them. They are the log's own defaults, in the log's order.
-- The view checks each row, in the triggers' plans. It counts characters only if there could be too many.
create view hark.published as
select l.channel, l.key, l.payload, l.headers from hark.log l
where l.channel <> '' and (octet_length(l.channel) <= 200 or char_length(l.channel) <= 200)
  and (l.key is null or octet_length(l.key) <= 1000 or char_length(l.key) <= 1000)
  and (l.headers is null or jsonb_typeof(l.headers) = 'object')
with local check option;
comment on view hark.published is 'For triggers of watched tables: insert only. Publish with hark.notify.';

-- Marks: moments of the log, shared by all readers (read/marks.sql). A reader reads what one mark sees and an
-- earlier one did not. A mark is never updated.
create sequence hark.mark_numbers cache 1;
-- Private marks have the negatives of these. Sessions take many at once, so that a look seldom writes.
create sequence hark.private_numbers cache 1000;
create table hark.marks (
  number bigint primary key check (number >= 0),   -- only a name: marks are ordered by (upper, fewest running last)
  life uuid not null,              -- the server's incarnation when the mark was cut
  taken_at timestamptz not null,   -- not before the snapshot was taken
  snapshot pg_snapshot not null,   -- which transactions had ended
  upper xid8 not null,             -- xmax of the snapshot
  running integer not null,        -- how many transactions it lists as running
  max_id bigint not null,          -- the last id drawn by then: complete transactions have none above it
  floor bigint not null,           -- transactions with a number of at least `upper` have greater ids
  low bigint not null,             -- the least of the floor and the lows
  stragglers xid8[] not null,      -- the transactions that were running
  lows bigint[] not null,          -- for each straggler, an id above which all its rows lie
  fence xid8 not null,             -- of the transaction that cut it: later numbers draw ids above max_id
  looked_at timestamptz not null   -- when locks were last looked at to raise lows
);
create index marks_in_order on hark.marks (upper desc, running, number desc);
-- Mark 0 has seen nothing. No other transaction can have published before this one commits.
insert into hark.marks values (
  0, '00000000-0000-0000-0000-000000000000', '-infinity', '1:1:', '1', 0, 0, 0, 0, '{}', '{}',
  pg_current_xact_id(), '-infinity'
);
comment on table hark.marks is 'Moments of the log, which all readers share; read/marks.sql says how they work.';

-- The marks that positions refer to. They are copies: the chain above is thinned all the time, and each foreign
-- key would be looked at for each mark that goes.
create table hark.kept_marks (
  number bigint primary key,
  mark hark.marks not null
);
insert into hark.kept_marks select m.number, m from hark.marks m;

-- What is done now and then for the log as a whole, in one row.
create table hark.upkeep (
  singleton boolean primary key default true check (singleton),
  cleaned_through bigint not null default 0,   -- the highest id that cleaning has removed
  thinned_at timestamptz not null default '-infinity'
);
insert into hark.upkeep default values;

-- The process that reports how the database is (operate/measure.sql), in one row. Unlogged on purpose: after a
-- crash another process may report as well.
create unlogged table hark.reporter (
  singleton boolean primary key default true check (singleton),
  process uuid,
  until timestamptz not null default '-infinity'   -- from then on another process may take its place
);

-- Unlogged on purpose: writing a row waits for no flush. A crash, which ends every sleeper's session, empties
-- the table. Every publisher looks here, so the channel compares by "C". A page has few rows, so that a
-- renewed row finds room on its own page. Write rows seldom: a long transaction keeps old row versions from
-- being pruned, and they slow the look.
create unlogged table hark.sleepers (
  channel text collate "C" not null,
  sleeper uuid not null,
  session bigint,                      -- advisory lock key held by its LISTEN session
  until timestamptz not null,
  primary key (channel, sleeper)
) with (fillfactor = 10);
comment on table hark.sleepers is 'Which readers to wake by NOTIFY for which channel; publishers look here.';

-- Tables without rows, each for one lock that only Hark's functions can take (hark.hold_gates, hark.try_lock). Not advisory locks:
-- any role that may connect can take those, and pg_locks shows it their numbers.
create table hark.gate_lock ();
create table hark.delivery_lock ();
create table hark.segments_lock ();

-- The gates in front of hark.sleepers (read/wake.sql): 64 sequences of 64 bits, and one that stands before them all.
create sequence hark.front_gate minvalue -9223372036854775808 cache 1;
do $$
begin
  for n in 0..63 loop
    execute format('create sequence hark.gate_%s minvalue -9223372036854775808 cache 1', lpad(n::text, 2, '0'));
  end loop;
end
$$;

-- Notifications to be delivered later. They are not in the log: an id drawn now would lie below every
-- reader's floor when it is due. The notification would be lost (read/marks.sql). hark.deliver_due
-- draws the id. hark.notify_at checks what it inserts: see hark.log.
create table hark.delayed (
  number bigint generated always as identity primary key,
  channel text not null,
  key text,
  payload jsonb not null,
  headers jsonb,
  deliver_at timestamptz not null,
  created_at timestamptz not null default clock_timestamp(),
  owner text not null,           -- the role that published it, and may cancel it, by the name of then
  owner_role oid                 -- its number on this server, which stays when it is renamed
);
create index delayed_by_time on hark.delayed (deliver_at, number);
comment on table hark.delayed is
  'Notifications that are not due yet: hark.deliver_due moves them to the log.';

-- What is published again and again (publish/schedule.sql). next_at is null if the pattern names no further
-- time, or if there is a problem.
create table hark.schedules (
  name text primary key,
  cron text not null,            -- the pattern, with 5 or 6 fields
  timezone text not null,        -- in which the pattern is read
  next_at timestamptz,           -- in whole seconds
  channel text not null,
  payload jsonb not null,
  key text,
  headers jsonb,
  missed text not null,          -- what happens to a time at which no worker ran
  last_at timestamptz,           -- the time that was published last
  last_id bigint,                -- its notification
  problem text,                  -- why it can no longer be published
  created_at timestamptz not null default clock_timestamp(),
  owner text not null,           -- the role that stored it, and may replace and remove it, by the name of then
  owner_role oid,                -- its number on this server, which stays when it is renamed
  constraint schedule_name_is_1_to_200_characters check (char_length(name) between 1 and 200),
  constraint cron_is_1_to_200_characters check (char_length(cron) between 1 and 200),
  constraint timezone_is_1_to_100_characters check (char_length(timezone) between 1 and 100),
  constraint channel_is_1_to_200_characters check (char_length(channel) between 1 and 200),
  constraint key_is_at_most_1000_characters check (char_length(key) <= 1000),
  constraint headers_are_an_object check (jsonb_typeof(headers) = 'object'),
  constraint missed_is_once_or_skip check (missed in ('once', 'skip'))
);
create index schedules_by_time on hark.schedules (next_at) where next_at is not null;
comment on table hark.schedules is 'Schedules: hark.run_schedule publishes what is due.';

-- What was published under a publisher's own dedupe key, so that the next call with that key publishes
-- nothing. `id` and `delayed` are both null only inside the call that took the key.
create table hark.dedupe (
  channel text not null,
  dedupe_key text not null,
  id bigint,                     -- in the log; null while it is delayed
  delayed bigint,                -- its number in hark.delayed; null once it is in the log
  expires_at timestamptz not null,
  primary key (channel, dedupe_key),
  constraint channel_is_1_to_200_characters check (char_length(channel) between 1 and 200),
  constraint dedupe_key_is_1_to_200_characters check (char_length(dedupe_key) between 1 and 200)
) with (fillfactor = 80);
create index dedupe_by_time on hark.dedupe (expires_at);
create index dedupe_by_delayed on hark.dedupe (delayed) where delayed is not null;
comment on table hark.dedupe is 'Keys of hark.notify_once; hark.forget_dedupe removes expired ones.';

-- A consumer's definition belongs to its row, not to its workers. A change raises the generation and fences
-- off workers that were started with another definition (hark.register).
create table hark.consumers (
  name text primary key,
  channels text[] not null,
  created_at timestamptz not null default clock_timestamp(),
  filter jsonb,
  transactional boolean not null default false,
  partitions integer not null default 1,
  generation bigint not null default 1,
  version integer not null default 0,   -- of the definition, set at deployment: the highest wins
  paused_at timestamptz,
  -- Raised by each change of hark.waiting that the partition's owner did not make itself.
  changes bigint not null default 0,
  -- A change of the number of partitions in progress: every partition first reads to one common mark.
  next_partitions integer,
  barrier bigint references hark.kept_marks,
  constraint name_is_1_to_200_characters check (char_length(name) between 1 and 200),
  constraint consumer_has_a_channel check (cardinality(channels) > 0),
  constraint filter_is_an_object check (jsonb_typeof(filter) = 'object'),
  constraint partitions_are_1_to_1024 check (partitions between 1 and 1024),
  constraint next_partitions_are_1_to_1024 check (next_partitions between 1 and 1024)
);

-- The processes in which workers run, each with its lease. Renewing it is one update, however many consumers
-- the process serves and partitions it owns. (A process has more rows if its consumers have leases of several
-- lengths, or if some of them drain.)
create table hark.processes (
  id uuid primary key,
  session bigint,                -- advisory lock key held by its LISTEN session, if it has one
  name text,                     -- its host and process, such as web-3:4711, for people
  lease_until timestamptz not null,
  renewed_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50);

-- The workers that serve a consumer. A worker is one run of a consumer in a process.
create table hark.workers (
  consumer text not null references hark.consumers on update cascade on delete cascade,
  owner uuid not null,
  process uuid not null references hark.processes on delete cascade,
  joined_at timestamptz not null default clock_timestamp(),
  yielded_at timestamptz,        -- when it last gave way to workers that joined later (hark.yield_to_newer)
  primary key (consumer, owner)
);
create index workers_by_process on hark.workers (process);

-- If the clock has gone back since a lease was renewed, a dead process would keep it for as long. It is over
-- then, unless a LISTEN session proves that the process lives.
create view hark.leases as
select p.id, p.session, p.name,
  case when p.session is null and p.renewed_at > clock_timestamp() + interval '1 minute'
    then least(p.lease_until, clock_timestamp()) else p.lease_until end as lease_until
from hark.processes p;

-- Workers with the lease of their process.
create view hark.crew as
select w.consumer, w.owner, w.process, w.joined_at, p.session, p.name, p.lease_until
from hark.workers w join hark.leases p on p.id = w.process;

-- Workers that sleep: they have no row in hark.workers, hold no partition, and renew nothing (deliver/sleep.sql).
create table hark.asleep (
  consumer text not null references hark.consumers on update cascade on delete cascade,
  owner uuid not null,
  session bigint,                -- advisory lock key held by its LISTEN session, if it has one
  name text,                     -- as in hark.processes
  since timestamptz not null default clock_timestamp(),
  wakes_at timestamptz not null, -- when it wakes by itself, at the latest
  primary key (consumer, owner)
);

-- Updated on every acknowledgement, so rows stay small and new versions find room on the same page.
create table hark.partitions (
  consumer text not null references hark.consumers on update cascade on delete cascade,
  partition integer not null default 0 check (partition >= 0),
  -- Its position: rows that `seen` sees are read, and of those that `target` sees the ones up to last_id. Ids
  -- up to after_id are none of its business: it began behind them.
  seen bigint not null references hark.kept_marks,
  target bigint references hark.kept_marks,   -- the end of the window that is being read; null between windows
  last_id bigint not null default 0,     -- the last id read inside that window
  after_id bigint not null default 0,
  -- The worker that serves it. Each claim raises the epoch, which fences out the owners of earlier epochs.
  epoch bigint not null default 0,
  owner uuid,
  -- Progress and the last failure.
  handled bigint not null default 0,
  acknowledged_at timestamptz,
  last_error text,
  failed_at timestamptz,
  -- How many owners in a row ended without releasing it and without getting past what the first of them held.
  crashes integer not null default 0,
  -- The notification that is handled alone, to find out whether it crashes the workers.
  alone_id bigint,
  -- The last notification that was handled alone when an owner ended, and how many owners in a row ended so.
  suspect_id bigint,
  suspect_ends integer not null default 0,
  served_at timestamptz,
  -- Why its worker reads no further: 'blocked' behind a failed notification (onFailure "block"), or 'full' of
  -- waiting ones. It may be over by now if no worker serves the partition: see hark.halted_of.
  halted text check (halted in ('blocked', 'full')),
  primary key (consumer, partition)
) with (fillfactor = 50);

-- Inboxes: up to which place of its source an inbox has published what came (publish/inbox.sql).
create table hark.inboxes (
  name text primary key check (char_length(name) between 1 and 200),
  source text not null,              -- which source, and which incarnation of it
  place bigint not null,
  -- When the source stored the latest message up to the place. If it has lost its last messages, it gives their numbers
  -- to new ones, which are later.
  place_time timestamptz,
  taken_at timestamptz,
  pending bigint                     -- how many messages the source then had behind the place; null if not known
);

-- Messages that an inbox could not publish.
create table hark.inbox_dead (
  inbox text not null references hark.inboxes on update cascade on delete cascade,
  number bigint generated always as identity,
  sequence bigint not null,          -- in the source. One that was made anew counts from 1 again
  subject text not null,
  headers jsonb not null,
  body bytea not null,
  within_ms bigint,                  -- for how long the inbox then remembered ids; null if not at all
  reason text not null,
  failed_at timestamptz not null default clock_timestamp(),
  primary key (inbox, number)
);

-- What relays and inboxes wait for now, such as a target that does not answer (operate/flows.sql).
create table hark.troubles (
  kind text check (kind in ('relay', 'inbox')),
  name text,
  reason text not null,
  since timestamptz not null default clock_timestamp(),
  told_at timestamptz not null default clock_timestamp(),   -- when a process said so last
  primary key (kind, name)
);

-- Relays: for each partition the place in the target up to which all that was published is stored as handled.
-- What was published behind it may be in doubt after a crash (deliver/relay.sql).
create table hark.relays (
  consumer text not null references hark.consumers on update cascade on delete cascade,
  partition integer not null,
  target text not null,              -- which target, and which incarnation of it
  place bigint not null,
  primary key (consumer, partition)
);

-- Endpoints of relays to webhooks that take no messages now: their last answer was a failure, or they are disabled.
-- One that takes them has no row.
create table hark.endpoints (
  consumer text not null references hark.consumers on update cascade on delete cascade,
  endpoint text not null,
  disabled boolean not null,
  failures integer not null,         -- in a row
  failing_since timestamptz not null,
  asked_again_at timestamptz,        -- null if it is disabled
  status integer,                    -- of the last answer; null if none came
  reason text not null,
  changed_at timestamptz not null default clock_timestamp(),
  primary key (consumer, endpoint)
);

-- The partitions with what their positions have seen.
--   low      no row that it has still to read has an id up to this one
--   low_now  the same, of the rows that the statement sees. A transaction that is open for hours has none, so it keeps
--            no statement looking at all rows since it began. Of no use to a later statement.
--   top      it has still to read all rows above
create view hark.places as
select p.consumer, p.partition, p.seen, p.target, p.last_id, p.after_id, p.owner, p.seen = 0 as seen_nothing,
  (s.mark).snapshot as seen_snapshot, (t.mark).snapshot as target_snapshot,
  greatest(p.after_id, (s.mark).low, case when t.number is not null then least(p.last_id, (t.mark).low) end) as low,
  greatest(p.after_id, (s.mark).low, least(
    case when t.number is not null then p.last_id end,
    (coalesce(t.mark, s.mark)).floor,
    (
      select min(l.low) from unnest((coalesce(t.mark, s.mark)).stragglers, (coalesce(t.mark, s.mark)).lows) l (xid, low)
      where pg_visible_in_snapshot(l.xid, pg_current_snapshot())
    )
  )) as low_now,
  greatest(p.after_id, (s.mark).max_id, case when t.number is not null then p.last_id end) as top
from hark.partitions p
-- Looked up one by one, whatever the plan: a status of each consumer would else read all marks of all consumers.
cross join lateral (select k.mark from hark.kept_marks k where k.number = p.seen offset 0) s
left join lateral (select k.number, k.mark from hark.kept_marks k where k.number = p.target offset 0) t on true;

-- Notifications that the partition's position has passed but that are not finished. A notification that
-- succeeds at once never gets a row here.
--   failed   its handler failed; it will be retried
--   behind   it waits for an earlier notification of the same key
--   running  its handler is slow, so that others need not wait for it
--   replay   it will be handled once more
--   retry    it is retried from the dead letters
create table hark.waiting (
  consumer text not null references hark.consumers on update cascade on delete cascade,
  id bigint not null,
  partition integer not null,
  key text,
  -- newer: only a worker of a newer program can handle it.
  state text not null check (state in ('failed', 'newer', 'behind', 'running', 'replay', 'retry')),
  attempts integer not null default 0,
  due_at timestamptz not null default clock_timestamp(),
  last_error text,
  failed_at timestamptz,
  -- The number of the change (consumers.changes) that asked for the next attempt at once. 0: none did.
  hurried bigint not null default 0,
  -- A copy, in case the log no longer has it (retried from the dead letters).
  channel text,
  payload jsonb,
  headers jsonb,
  created_at timestamptz,
  primary key (consumer, id)
);
create index waiting_by_partition on hark.waiting (consumer, partition, id);
create index waiting_by_id on hark.waiting (id);

-- Notifications given up, with a copy, because the log is cleaned.
create table hark.dead (
  consumer text not null references hark.consumers on update cascade on delete cascade,
  id bigint not null,
  channel text,
  key text,
  payload jsonb,
  headers jsonb,
  created_at timestamptz,
  attempts integer not null,
  error text,
  died_at timestamptz not null default clock_timestamp(),
  primary key (consumer, id)
);

-- Notifications finished beyond a partition's position. Either a transactional consumer's handler finished
-- them in its transaction, or they finished while an earlier one is still in hand: after waiting, or long ago.
create table hark.done (
  consumer text not null references hark.consumers on update cascade on delete cascade,
  partition integer not null,
  id bigint not null,
  primary key (consumer, partition, id)
);

-- Ranges of ids that one consumer handles once more. Its workers move them to hark.waiting in batches.
create table hark.replays (
  number bigint generated always as identity primary key,
  consumer text not null references hark.consumers on update cascade on delete cascade,
  channels text[],               -- null: the consumer's channels
  next_id bigint not null,
  to_id bigint not null,
  created_at timestamptz not null default clock_timestamp()
);

-- The positions of the consumer's partitions when the replay was asked for. Notifications that were not passed
-- then are delivered in their turn, not once more.
create table hark.replay_positions (
  replay bigint references hark.replays on delete cascade,
  partition integer,
  seen bigint not null references hark.kept_marks,
  target bigint references hark.kept_marks,
  last_id bigint not null,
  after_id bigint not null,
  primary key (replay, partition)
);

-- How long notifications are kept, by channel; the empty channel stands for all that have no row. Workers remove
-- what is older (hark.apply_retention). The rest is how far they are. A worker that does so locks the row.
create table hark.retention (
  channel text primary key,
  keep interval,                     -- null: for ever
  set_at timestamptz not null default clock_timestamp(),
  next_at timestamptz not null default clock_timestamp(),
  after_id bigint not null default 0,      -- where the next batch begins
  first_kept bigint,                 -- the first id that this pass has kept for a consumer
  begun_at timestamptz,              -- when a pass last began with the first id of the log
  applied_at timestamptz,
  removed bigint not null default 0,
  constraint channel_is_at_most_200_characters check (char_length(channel) <= 200)
) with (fillfactor = 50);

-- Rows of hark.notifications and of hark.delayed_notifications.
create type hark.found as (
  id bigint,
  channel text,
  key text,
  payload text,
  headers text,
  created_at timestamptz,
  bytes bigint,            -- of payload and headers as stored
  problem text,            -- why they cannot be read
  looked_through bigint,   -- only in the last row of a page, as the next two
  looked bigint,
  more boolean
);
create type hark.not_due as (
  number bigint,
  channel text,
  key text,
  payload text,
  headers text,
  deliver_at timestamptz,
  created_at timestamptz,
  owner text,
  problem text
);

-- Deletions from the log by hand: by which role, when, why, and how much. It outlives the notifications,
-- so it has none of their contents. `choice` names what they were chosen by, without values: a key may be the
-- very thing that had to be erased. Rows are added and completed (hark.delete_notifications), never removed.
create table hark.deletions (
  number bigint generated always as identity primary key,
  role text not null,                -- the role that deleted
  login text not null,               -- the role that had logged in
  reason text not null,
  channel text,
  choice text[] not null,
  through_id bigint not null,        -- ids above it are not looked at
  publishers xid[] not null default '{}', -- that were open when it began: it looks again when they have ended
  begun_at timestamptz not null default clock_timestamp(),
  finished_at timestamptz,
  log bigint not null default 0,
  waiting bigint not null default 0,
  dead bigint not null default 0,
  delayed bigint not null default 0,
  constraint reason_is_1_to_1000_characters check (char_length(reason) between 1 and 1000)
);
comment on table hark.deletions is 'Deletions by hand: by which role, when and why: see hark.delete_notifications.';

-- What operators did to consumers and settings: the last 10,000 acts, deletions from the log aside. It has no values
-- that an act was given but names and numbers: a key or an error's text may hold personal data.
create table hark.acts (
  number bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  act text not null,
  about text,                        -- the consumer, schedule or channel; it may be gone
  affected bigint,                   -- how many notifications
  detail text not null,
  role text not null,                -- the role that acted
  login text not null,               -- the role that had logged in
  person text                        -- as the program said by the setting hark.person; null if it did not
);
comment on table hark.acts is 'What operators did, by which role and when: see hark.list_acts.';

-- The watches of tables, and the progress of each one's snapshot. Row security lets each role see and change
-- the watches of the owners it belongs to. Functions that act on a watch check that the table still belongs
-- to its owner.
create table hark.watches (
  function_schema text not null,
  function_name text not null,
  table_schema text not null,
  table_name text not null,
  name text not null,
  owner text not null,
  -- A role may write the rows of its own tables. This check keeps what it writes from failing hark.watches()
  -- for other roles.
  definition jsonb not null check (coalesce(jsonb_path_match(definition, '
    $.relation.type() == "string" && $.schema.type() == "string" && $.table.type() == "string"
    && $.name.type() == "string" && $.channel.type() == "string"
    && $.operations.type() == "array" && !exists($.operations[*] ? (@.type() != "string"))
    && !exists($.key ? (@.type() != "null")[*] ? (@.type() != "string"))
    && !exists($.include ? (@.type() != "null")[*] ? (@.type() != "string"))
    && !exists($.exclude ? (@.type() != "null")[*] ? (@.type() != "string"))
    && !exists($.if_changed ? (@.type() != "null")[*] ? (@.type() != "string"))
    && !exists($.condition ? (@.type() != "null" && @.type() != "string"))
    && !exists($.headers ? (@.type() != "null" && @.type() != "object"))
    && $.payload.type() == "string" && $.max_bytes >= 1000 && $.max_bytes <= 67108864
    && $.replicated.type() == "boolean" && $.tree.type() == "boolean"
    && $.level.type() == "string" && $.mode.type() == "string"
    && $.columns.type() == "object" && !exists($.columns.keyvalue() ? (!(@.key like_regex "^[1-9][0-9]{0,3}$")
      || @.value.type() != "string"))
    ', silent => true), false)),
  snapshot_wanted boolean not null default false,
  snapshot_after jsonb,
  snapshot_count bigint not null default 0,
  snapshot_done_at timestamptz,
  created_at timestamptz not null default clock_timestamp(),
  -- Set to remove the row: a role with DELETE on the table could lock it as a whole.
  removed boolean not null default false,
  primary key (function_schema, function_name, owner)
);
comment on table hark.watches is 'Which tables are watched, and how: see hark.watch and hark.watches().';
alter table hark.watches enable row level security;
create policy of_its_owner on hark.watches
  using (exists (select from pg_roles r where r.rolname = owner and pg_has_role(r.oid, 'usage')));
-- A table that gets another owner keeps its triggers. Its owner sees the watch that they belong to, and may end
-- it. The owner of a table below it may not. The function must belong to one of the two: no role can put another
-- role's function on a table.
create policy of_its_table on hark.watches for select using (exists (
  select from pg_proc p join pg_trigger t on t.tgfoid = p.oid join pg_class c on c.oid = t.tgrelid
  where p.proname = function_name and p.pronamespace = to_regnamespace(quote_ident(function_schema))
    and pg_get_userbyid(p.proowner) in (owner, pg_get_userbyid(c.relowner)) and pg_has_role(c.relowner, 'usage')
    and not exists (select from pg_inherits i join pg_trigger a on a.tgrelid = i.inhparent where i.inhrelid = c.oid and a.tgfoid = p.oid)
));
create policy ends_with_its_table on hark.watches for update using (exists (
  select from pg_proc p join pg_trigger t on t.tgfoid = p.oid join pg_class c on c.oid = t.tgrelid
  where p.proname = function_name and p.pronamespace = to_regnamespace(quote_ident(function_schema))
    and pg_get_userbyid(p.proowner) in (owner, pg_get_userbyid(c.relowner)) and pg_has_role(c.relowner, 'usage')
    and not exists (select from pg_inherits i join pg_trigger a on a.tgrelid = i.inhparent where i.inhrelid = c.oid and a.tgfoid = p.oid)
)) with check (removed);
