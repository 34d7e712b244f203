-- Every table, type, index, sequence, view and policy of the schema, as a new install makes them. A later version that
-- changes one of them says so here, and in a file of upgrades/ for those who have the older one.

create schema hark;
comment on schema hark is 'Durable LISTEN/NOTIFY: a log of notifications and the consumers that read it.';

-- The version of these tables and of the functions beside them. One row. `functions` is a digest of all the SQL, so that
-- a program with other functions of the same version brings its own.
create table hark.schema_version (
  singleton boolean primary key default true check (singleton),
  version text not null,
  functions text not null,
  changed_at timestamptz not null default clock_timestamp()
);

-- Which role was given which rights: an upgrade gives it the functions that its programs need then (rights.sql).
create table hark.grants (
  role_name text,
  kind text check (kind in ('publish', 'consume', 'operate')),
  primary key (role_name, kind)
);

-- Which install this is, and which server its transaction numbers belong to. After a dump and restore
-- the numbers stored in the log mean nothing to the new server: see hark.rebase().
create table hark.install (
  singleton boolean primary key default true check (singleton),
  id uuid not null default gen_random_uuid(),
  system_identifier bigint not null,
  rebased_through bigint not null default 0,
  -- This row's own xmin as it was written: still that after pg_upgrade, which copies files and keeps the
  -- transaction numbers, and another after a restore, which inserts anew and keeps none.
  written_by xid
);
insert into hark.install (system_identifier)
select system_identifier from pg_control_system();
update hark.install i set written_by = i.xmin;

-- Unlogged on purpose: PostgreSQL empties it in crash recovery. A crash hands out again the transaction
-- numbers that had not reached the disk, so a snapshot window kept in somebody's memory may count
-- notifications as read that nobody has read. A window carries this id and is refused when it changed,
-- also behind a pooler that hides the lost connection.
create unlogged table hark.incarnation (
  singleton boolean primary key default true check (singleton),
  id uuid not null default gen_random_uuid()
);

-- The transaction number is the first column so that it is taken before the id is drawn, whoever
-- inserts: reading rests on that order (hark.window_open).
--
-- No CHECK constraints: those of a table are parsed, planned and prepared anew by each insert, 10 of its 17 us here. So
-- the functions that insert check what they are given, in their plans, and refuse it by a constraint's name
-- (hark.refuse_invalid). What comes from hark.delayed has been checked there.
--
-- Divided by ranges of ids into leaves, which hark.add_leaves makes (operate/segments.sql).
create table hark.log (
  xid xid8 not null default pg_current_xact_id(),
  id bigint generated always as identity (cache 1) primary key,
  channel text not null,
  key text,
  payload jsonb not null,
  headers jsonb,
  created_at timestamptz not null default clock_timestamp()
) partition by range (id);
comment on table hark.log is 'Notifications. Append-only: publish with hark.notify, remove with hark cleanup.';
create table hark.log_0 (like hark.log including defaults);
alter table hark.log attach partition hark.log_0 for values from (minvalue) to (1000000);
create table hark.log_rest partition of hark.log default;

-- Many notifications by one statement, for generated triggers. The columns that order reading (xid, id) are not
-- in it, so nobody can forge them: they are the log's own defaults, in the log's order. What a row must be is checked
-- here, in the triggers' plans.
create view hark.published as
select l.channel, l.key, l.payload, l.headers from hark.log l
where char_length(l.channel) between 1 and 200
  and (l.key is null or char_length(l.key) <= 1000)
  and (l.headers is null or jsonb_typeof(l.headers) = 'object')
with local check option;
comment on view hark.published is 'For triggers of watched tables: insert only. Publish with hark.notify.';

create type hark.position as (
  seen pg_snapshot,       -- all rows of transactions complete in it are consumed; '1:1:' has seen nothing
  seen_max bigint,        -- a value of the id sequence not newer than `seen`: the next floor
  floor bigint,           -- ids of transactions with xid >= xmax(seen) are greater
  stragglers xid8[],      -- transactions that were running in `seen` ...
  lows bigint[],          -- ... and for each an id above which all its rows lie
  target pg_snapshot,     -- of the open window, null between windows
  target_max bigint,      -- its last id
  last_id bigint,         -- read so far inside the window
  incarnation uuid        -- of the server when this was made; null once loaded from where a crash leaves it
);

-- Positions taken now and then that nobody reads from: they tell a new reader from where it must look for
-- transactions still running ("now"), and where to begin for a time. A chain: each is made by a transaction
-- that saw the one before it committed, so that one's transaction is the fence between their snapshots.
create table hark.waymarks (
  number bigint primary key,
  taken_at timestamptz not null,   -- not before the snapshot was taken
  seen pg_snapshot not null,
  seen_max bigint not null,
  floor bigint not null,
  stragglers xid8[] not null,
  lows bigint[] not null,
  fence xid8 not null              -- of the transaction that stored it: later numbers draw ids above seen_max
);
-- Nobody but this transaction can have published before it commits.
insert into hark.waymarks
values (0, '-infinity', '1:1:', 0, 0, '{}', '{}', pg_current_xact_id());

-- Unlogged on purpose: setting a row waits for no flush, and a crash, which ends every sleeper's session, empties it.
-- Every publisher looks here: so it compares by "C", and has few rows a page, so that a renewed row finds room on its
-- own. The versions that a long transaction keeps from being pruned lie in the way, so rows are to be written seldom.
create unlogged table hark.sleepers (
  channel text collate "C" not null,   -- '' is every channel
  sleeper uuid not null,
  session bigint,                      -- advisory lock held by its LISTEN session
  until timestamptz not null,
  primary key (channel, sleeper)
) with (fillfactor = 10);
comment on table hark.sleepers is 'Who is to be woken by NOTIFY for which channel; publishers look here.';

create sequence hark.gate minvalue -9223372036854775808 cache 1;
select setval('hark.gate', 0);

-- Notifications that wait for their time. They are not in the log: an id drawn now would lie below every
-- reader's floor by the time it is due, and be lost (read/window.sql). The id is drawn by hark.deliver_due.
create table hark.delayed (
  number bigint generated always as identity primary key,
  channel text not null,
  key text,
  payload jsonb not null,
  headers jsonb,
  deliver_at timestamptz not null,
  created_at timestamptz not null default clock_timestamp(),
  constraint channel_is_1_to_200_characters check (char_length(channel) between 1 and 200),
  constraint key_is_at_most_1000_characters check (char_length(key) <= 1000),
  constraint headers_are_an_object check (jsonb_typeof(headers) = 'object'),
  constraint deliver_at_is_finite check (isfinite(deliver_at))
);
create index delayed_by_time on hark.delayed (deliver_at, number);
comment on table hark.delayed is 'Notifications that are not due yet: hark.deliver_due moves them to the log.';

-- What was published under a producer's own key, so that the next one under that key publishes nothing. Both id
-- and delayed are null only inside the call that took the key.
create table hark.dedupe (
  channel text not null,
  dedupe_key text not null,
  id bigint,                     -- in the log; null while it is delayed
  delayed bigint,                -- the number it waits under; null once it is in the log
  expires_at timestamptz not null,
  primary key (channel, dedupe_key),
  constraint channel_is_1_to_200_characters check (char_length(channel) between 1 and 200),
  constraint dedupe_key_is_1_to_200_characters check (char_length(dedupe_key) between 1 and 200)
) with (fillfactor = 80);
create index dedupe_by_time on hark.dedupe (expires_at);
create index dedupe_by_delayed on hark.dedupe (delayed) where delayed is not null;
comment on table hark.dedupe is 'Keys of hark.notify_once; hark.forget_dedupe removes those that have expired.';

-- What a consumer is belongs to its row, not to its workers: a change raises the generation and fences off
-- workers that were started with something else (hark.register).
create table hark.consumers (
  name text primary key,
  channels text[] not null,
  created_at timestamptz not null default clock_timestamp(),
  filter jsonb,
  transactional boolean not null default false,
  partitions integer not null default 1,
  generation bigint not null default 1,
  version integer not null default 0,   -- of its definition, by who deploys it: the highest wins
  paused_at timestamptz,
  -- Raised by whoever puts something into hark.waiting that is not the partition's owner.
  changes bigint not null default 0,
  -- A change of the number of partitions under way: every partition first reads to one common snapshot.
  next_partitions integer,
  barrier pg_snapshot,
  barrier_max bigint,
  constraint name_is_1_to_200_characters check (char_length(name) between 1 and 200),
  constraint consumer_has_a_channel check (cardinality(channels) > 0),
  constraint filter_is_an_object check (jsonb_typeof(filter) = 'object'),
  constraint partitions_are_1_to_1024 check (partitions between 1 and 1024),
  constraint next_partitions_are_1_to_1024 check (next_partitions between 1 and 1024)
);

-- The processes that serve a consumer. A lease is the worker's, not the partition's, so that renewing it is
-- one update however many partitions it holds.
create table hark.workers (
  consumer text not null references hark.consumers on update cascade on delete cascade,
  owner uuid not null,
  session bigint,                -- advisory lock key held by its LISTEN session, where it has one
  name text,                     -- its host and process, such as web-3:4711: what people know it by
  lease_until timestamptz not null,
  joined_at timestamptz not null default clock_timestamp(),
  primary key (consumer, owner)
) with (fillfactor = 50);

-- Updated on every acknowledgement, so rows stay small and find room on their own page.
create table hark.partitions (
  consumer text not null references hark.consumers on update cascade on delete cascade,
  partition integer not null default 0 check (partition >= 0),
  "position" hark.position not null,
  -- Who serves it. The epoch rises with each claim and fences out whoever held an earlier one.
  epoch bigint not null default 0,
  owner uuid,
  -- What became of it.
  handled bigint not null default 0,
  acknowledged_at timestamptz,
  last_error text,
  failed_at timestamptz,
  -- How many owners in a row ended without giving it back, and did not get past what the first of them held.
  crashes integer not null default 0,
  -- The notification that is handled alone, to find out whether it is what ends them.
  trying_id bigint,
  -- The last one that was when an owner ended, and how many ended so in a row.
  suspect_id bigint,
  suspect_ends integer not null default 0,
  served_at timestamptz,
  primary key (consumer, partition)
) with (fillfactor = 50);

-- What a partition's position has passed although it is not done with: failed and to be tried again, behind
-- such a one of the same key, handled for so long that others need not wait, or to be handled once more.
-- A success that comes at once never writes here.
create table hark.waiting (
  consumer text not null references hark.consumers on update cascade on delete cascade,
  id bigint not null,
  partition integer not null,
  key text,
  state text not null check (state in ('failed', 'behind', 'running', 'replay', 'retry')),
  attempts integer not null default 0,
  due_at timestamptz not null default clock_timestamp(),
  last_error text,
  failed_at timestamptz,
  -- A copy, where the log may not have it any more (tried again from the dead letters).
  channel text,
  payload jsonb,
  headers jsonb,
  created_at timestamptz,
  primary key (consumer, id)
);
create index waiting_by_partition on hark.waiting (consumer, partition, id);
create index waiting_by_id on hark.waiting (id);

-- Notifications given up, with a copy, as the log is cleaned.
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

-- What is done beyond a partition's position: by the transactions of a transactional consumer's handlers, or after it
-- had waited behind one that is still in hand.
create table hark.done (
  consumer text not null references hark.consumers on update cascade on delete cascade,
  partition integer not null,
  id bigint not null,
  primary key (consumer, partition, id)
);

-- Ranges of ids to be handled once more by one consumer; its workers move them to hark.waiting bit by bit.
create table hark.replays (
  number bigint generated always as identity primary key,
  consumer text not null references hark.consumers on update cascade on delete cascade,
  channels text[],               -- null: the consumer's
  next_id bigint not null,
  to_id bigint not null,
  -- Where the consumer's partitions were: what they had not passed then comes in its turn, not once more.
  positions hark.position[] not null default '{}',
  created_at timestamptz not null default clock_timestamp()
);

-- The watches of tables, and how far the snapshot of each is. Row security lets each role see and change those of
-- the owners it belongs to. That a table is another's is checked where something is done with it.
create table hark.watches (
  function_schema text not null,
  function_name text not null,
  table_schema text not null,
  table_name text not null,
  name text not null,
  owner text not null,
  -- A role may write the rows of its own tables, and what it writes there is not to fail hark.watches() for others.
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
  primary key (function_schema, function_name, owner)
);
comment on table hark.watches is 'Which tables are watched, and how: see hark.watch and hark.watches().';
alter table hark.watches enable row level security;
create policy of_its_owner on hark.watches
  using (exists (select from pg_roles r where r.rolname = owner and pg_has_role(r.oid, 'usage')));
