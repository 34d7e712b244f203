// Generated from sql/*.sql by `deno task bundle`. Do not edit.

/** A numbered migration: its version, its name, and the SQL that makes it. */
export interface Migration {
  /** 1, 2, 3 and so on: the schema's version once it is applied. */
  readonly version: number;
  /** What it brings, one word. */
  readonly name: string;
  /** Its statements, to be run in one transaction. */
  readonly sql: string;
}

/** Every migration, in order. */
export const migrations: readonly Migration[] = [
  {
    version: 1,
    name: "log",
    sql: `-- Hark 001: the schema, the log, and publishing.
--
-- Run each file of this folder once, in order, in a transaction of its own:
--   psql -v ON_ERROR_STOP=1 -1 -f sql/001_log.sql
-- Each file records itself in hark.migrations; running it twice fails and changes nothing.

set local search_path = pg_catalog, pg_temp;

create schema hark;
comment on schema hark is 'Durable LISTEN/NOTIFY: a log of notifications and the consumers that read it.';

create table hark.migrations (
  version integer primary key,
  name text not null,
  applied_at timestamptz not null default clock_timestamp()
);
insert into hark.migrations (version, name) values (1, 'log');

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
create table hark.log (
  xid xid8 not null default pg_current_xact_id(),
  id bigint generated always as identity (cache 1) primary key,
  channel text not null,
  key text,
  payload jsonb not null,
  headers jsonb,
  created_at timestamptz not null default clock_timestamp(),
  constraint channel_is_1_to_200_characters check (char_length(channel) between 1 and 200),
  constraint key_is_at_most_1000_characters check (char_length(key) <= 1000),
  constraint headers_are_an_object check (jsonb_typeof(headers) = 'object')
);
comment on table hark.log is 'Notifications. Append-only: publish with hark.notify, remove with hark cleanup.';

create function hark.version() returns integer
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$ select max(m.version) from hark.migrations m $$;
comment on function hark.version() is 'The version of the installed schema.';

-- The three publishing functions are the hot path. A SET clause costs 2 to 5 % of a publish, so they have
-- none: instead every name and operator is qualified, and no construct is used that looks an operator up
-- by the caller's search_path (IN, IS DISTINCT FROM, CASE x WHEN, NULLIF, BETWEEN, LIKE).

create function hark.notify(
  channel text,
  payload jsonb default '{}',
  key text default null,
  headers jsonb default null
) returns bigint
language plpgsql volatile security definer
as $$
declare
  writer pg_catalog.xid8;
  drawn bigint;
begin
  -- A statement of its own, before the insert: the number must be taken before the id is drawn.
  writer := pg_catalog.pg_current_xact_id();
  insert into hark.log (xid, channel, key, payload, headers, created_at)
  values (writer, $1, $3, coalesce($2, 'null'::pg_catalog.jsonb), $4, pg_catalog.clock_timestamp())
  returning log.id into drawn;
  -- A full NOTIFY queue fails the commit, so near one the consumers' polling has to do.
  if coalesce(pg_catalog.current_setting('hark.wake', true), '') operator(pg_catalog.<>) 'off'
    and pg_catalog.pg_notification_queue_usage() operator(pg_catalog.<) 0.5
  then
    perform pg_catalog.pg_notify('hark', $1);
  end if;
  return drawn;
end
$$;
comment on function hark.notify(text, jsonb, text, jsonb) is
  'Publishes a notification in this transaction and returns its id. SET LOCAL hark.wake = off publishes without NOTIFY.';

create function hark.smart_notify(channel_name text, payload_data jsonb default '{}') returns bigint
language plpgsql volatile security definer
as $$
begin
  return hark.notify($1, $2);
end
$$;
comment on function hark.smart_notify(text, jsonb) is 'hark.notify under the name django-pgwatch gave it.';

-- One insert for many. The parameter is json, not jsonb: a jsonb value ends at 256 MB and would be parsed
-- twice. A missing payload is JSON null here; a missing key or missing headers are SQL null.
create function hark.notify_many(notifications json) returns setof bigint
language plpgsql volatile security definer
as $$
declare
  writer pg_catalog.xid8;
  drawn bigint[];
  channels pg_catalog.text[];
begin
  writer := pg_catalog.pg_current_xact_id();
  with published as (
    insert into hark.log (xid, channel, key, payload, headers, created_at)
    select writer, n.channel, n.key, coalesce(n.payload, 'null'::pg_catalog.jsonb), n.headers,
      pg_catalog.clock_timestamp()
    from rows from (
      pg_catalog.json_to_recordset($1) as (
        channel pg_catalog.text, key pg_catalog.text, payload pg_catalog.jsonb, headers pg_catalog.jsonb
      )
    ) with ordinality as n (channel, key, payload, headers, place)
    order by n.place
    returning log.id, log.channel
  )
  select pg_catalog.array_agg(p.id order by p.id), pg_catalog.array_agg(distinct p.channel)
  into drawn, channels
  from published p;
  if coalesce(pg_catalog.current_setting('hark.wake', true), '') operator(pg_catalog.<>) 'off'
    and pg_catalog.pg_notification_queue_usage() operator(pg_catalog.<) 0.5
  then
    perform pg_catalog.pg_notify('hark', c.channel) from pg_catalog.unnest(channels) as c (channel);
  end if;
  return query select d.id from pg_catalog.unnest(drawn) as d (id);
end
$$;
comment on function hark.notify_many(json) is
  'Publishes an array of {channel, payload, key, headers} in this transaction; returns their ids in order.';

revoke execute on all functions in schema hark from public;
`,
  },
  {
    version: 2,
    name: "windows",
    sql: `-- Hark 002: reading without loss, by snapshot windows.
--
-- Ids are drawn before transactions commit, so "everything above the last id I saw" loses whatever commits
-- late, and "everything older than the oldest running transaction" stalls behind one long transaction. A
-- window does neither: it is the set of rows whose transaction is complete in one snapshot (target) and was
-- not complete in the one before (seen). Each committed row lies in exactly one window.
--
-- What keeps a window from scanning the whole log is the floor: an id above which lie the rows of every
-- transaction that had not even begun to number itself when \`seen\` was taken. It rests on three things:
--   1. a publisher takes its transaction number before it draws an id (hark.notify, the column order);
--   2. between the opening of one window and of the next, some transaction takes its number and ends
--      (the fence; acknowledging is one);
--   3. so a number at or above xmax of the later snapshot was given out after the earlier opening, and
--      its ids lie above the last one that had been drawn there (hark.drawn).
-- xmax of a snapshot is "latest completed + 1", not "not begun yet": a floor taken together with \`seen\`
-- itself would lose rows. The floor always lags by one window.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (2, 'windows');

create type hark.position as (
  seen pg_snapshot,       -- all rows of transactions complete in it are consumed; '1:1:' has seen nothing
  seen_max bigint,        -- a value of the id sequence not newer than \`seen\`: the next floor
  floor bigint,           -- ids of transactions with xid >= xmax(seen) are greater
  stragglers xid8[],      -- transactions that were running in \`seen\` ...
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

create function hark.incarnation() returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  now_id uuid;
begin
  select i.id into now_id from hark.incarnation i;
  if now_id is null then
    insert into hark.incarnation default values on conflict do nothing;
    select i.id into now_id from hark.incarnation i;
  end if;
  return now_id;
end
$$;
comment on function hark.incarnation() is 'Changes whenever the server has been through crash recovery or a fail-over.';

-- Changes when a standby has been promoted. One that lacked the last of the log gives out again numbers and
-- ids that the old primary had given out, so a position remembered from there means nothing here.
create function hark.timeline() returns text
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$ select left(pg_walfile_name(pg_current_wal_lsn()), 8) $$;

-- The last id that was drawn. Not \`select last_value from hark.log_id_seq\`: every 32nd call of nextval writes a
-- value 32 ahead of the truth into that row, for as long as it takes to log it, and a query reads the row
-- without the lock that hides this. An end of a window read there lay above ids that were yet to be drawn, and
-- what then got them was lost (seen on PostgreSQL 15: 28 in a row). This function takes the lock. It gives null
-- where nothing has been drawn, as after a restore without the sequence's value.
create function hark.drawn() returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  last_id bigint := pg_sequence_last_value('hark.log_id_seq');
begin
  if last_id is null then
    select coalesce(max(l.id), 0) into last_id from hark.log l;
  end if;
  return last_id;
end
$$;

-- Stops a reader where a snapshot would not mean what reading needs it to mean.
create function hark.require_fresh_snapshot() returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if pg_is_in_recovery() then
    raise exception 'this server is a standby: its snapshots do not list running transactions'
      using errcode = 'HK003', hint = 'Connect to the primary.';
  end if;
  if pg_current_xact_id_if_assigned() is not null then
    raise exception 'this transaction has already written: its own notifications would count as read'
      using errcode = 'HK001', hint = 'Read in a transaction of its own, outside yours.';
  end if;
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'reading needs READ COMMITTED, and this transaction is %',
      upper(current_setting('transaction_isolation'))
      using errcode = 'HK002', hint = 'Read in a READ COMMITTED transaction of its own.';
  end if;
end
$$;

-- Where the rows of transactions listed as running lie at the earliest: what the position at hand knows,
-- bettered by waymarks. \`otherwise\` is the floor that held with the older snapshot.
create function hark.lows_of(
  running xid8[], known xid8[], known_lows bigint[], otherwise bigint
) returns bigint[]
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(greatest(
    coalesce((select k.low from unnest(known, known_lows) k (xid, low) where k.xid = r.xid), otherwise),
    (select max(case
        when r.xid > w.fence then w.seen_max
        when r.xid >= pg_snapshot_xmax(w.seen) then w.floor
        else (select s.low from unnest(w.stragglers, w.lows) s (xid, low) where s.xid = r.xid)
      end)
      from (select * from hark.waymarks order by number desc limit 10) w)
  ) order by r.place), '{}')
  from unnest(running) with ordinality r (xid, place)
$$;

-- A transaction that runs for long and has not published would make every reader look again from its low
-- when it ends. While it holds no RowExclusiveLock on the log it has no rows there, so whatever it may
-- still publish lies above the last id drawn before the look. pg_locks shows every role every transaction's
-- locks.
--
-- One that is ending must not be taken for such a one. It first leaves the list of running transactions, then
-- gives its locks back one by one: so only what still runs after the look, in a later statement with a later
-- snapshot, held all its locks during it. By pid, not by virtualtransaction, which a commit in the middle of
-- the look changes. PREPARE hands locks over to no pid at all, one partition of the lock table at a time: while
-- a lock on the log has no pid, nobody's low is raised.
create function hark.raise_lows(running xid8[], lows bigint[]) returns bigint[]
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  before_look bigint;
  without_rows xid[];
  raised bigint[];
begin
  before_look := hark.drawn();
  with locks as materialized (
    select l.pid, l.transactionid, l.mode, l.relation, l.locktype, l.database
    from pg_locks l where l.granted
  )
  select coalesce(array_agg(x.transactionid), '{}') into without_rows
  from locks x
  where x.locktype = 'transactionid' and x.mode = 'ExclusiveLock' and x.pid is not null and not exists (
    select from locks r
    where (r.pid = x.pid or r.pid is null) and r.locktype = 'relation'
      and r.relation = 'hark.log'::regclass
      and r.database = (select d.oid from pg_database d where d.datname = current_database())
  );
  select coalesce(array_agg(
    case when t.xid::xid = any (without_rows)
        and not pg_visible_in_snapshot(t.xid, pg_current_snapshot())
      then greatest(t.low, before_look) else t.low end
    order by t.place), '{}')
  into raised
  from unnest(running, lows) with ordinality t (xid, low, place);
  return raised;
end
$$;

-- Opens the next window of a position, or returns the position as it is while one is open.
create function hark.window_open(p hark.position) returns hark.position
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  w hark.position := p;
begin
  perform hark.require_fresh_snapshot();
  if w.target is null then
    -- One statement: its snapshot is taken before the sequence is read, so no complete transaction has
    -- drawn an id above target_max.
    select pg_current_snapshot(),
      greatest(p.seen_max, hark.drawn())
    into w.target, w.target_max;
    select least(p.floor, min(t.low)) into w.last_id
    from unnest(p.stragglers, p.lows) t (xid, low)
    where pg_visible_in_snapshot(t.xid, w.target);
  end if;
  -- After the snapshot: this may take a number.
  w.incarnation := hark.incarnation();
  if p.incarnation <> w.incarnation then
    raise exception 'the server has restarted after a crash since this position was reached'
      using errcode = 'HK004', hint = 'Load the stored position, or start again.';
  end if;
  return w;
end
$$;

-- Reads a page of the open window: its rows, and one more row, with a null id, that carries the position
-- after them, whether that is the window's end, and how many ids the window spans. A page ends at max_rows
-- rows, with the row that passes max_bytes, or after max_scanned rows that were looked at, so that a rare
-- channel returns promptly too.
--
-- VOLATILE, so that each statement sees what has committed by now: a row complete in \`target\` need not be
-- visible to the statement that called this function and its opening.
create function hark.window_read(
  p hark.position, channels text[], max_rows integer, max_bytes bigint, max_scanned integer,
  started pg_snapshot
) returns table (
  id bigint, channel text, key text, payload jsonb, headers jsonb, created_at timestamptz,
  is_replay boolean, "position" hark.position, window_end boolean, window_span bigint
)
language plpgsql volatile security definer rows 500
set search_path = pg_catalog, pg_temp
-- A page is a range of the primary key, whatever the statistics say of a table that grows this fast.
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  finished xid8[];
  next_xid xid8 := pg_snapshot_xmax(p.seen);
  seen_nothing boolean := p.seen::text = '1:1:';
  complete_through bigint;
begin
  if p.incarnation is distinct from hark.incarnation() then
    raise exception 'the server has restarted after a crash since this window was opened'
      using errcode = 'HK004', hint = 'Load the stored position and open a new window.';
  end if;
  select i.rebased_through into complete_through from hark.install i;
  select coalesce(array_agg(t.xid), '{}') into finished
  from unnest(p.stragglers) t (xid) where pg_visible_in_snapshot(t.xid, p.target);
  return query
  with kept as materialized (
    -- Bytes as stored are at most those sent, and known without fetching or unpacking anything: they
    -- bound what is unpacked below to find the true size.
    select s.*,
      sum(100 + pg_column_size(s.payload) + coalesce(pg_column_size(s.headers), 0))
        over (order by s.id rows between unbounded preceding and 1 preceding) as stored_before
    from (
      -- The inner limit bounds the scan; without it the planner sorts the whole log.
      select l.* from hark.log l
      where l.id > p.last_id and l.id <= p.target_max
      order by l.id
      limit max_scanned
    ) s
    where case when s.id <= complete_through then seen_nothing
        else (s.xid >= next_xid or s.xid = any (finished)) and pg_visible_in_snapshot(s.xid, p.target)
      end
      and (channels is null or s.channel = any (channels))
    order by s.id
    limit max_rows
  ),
  page as materialized (
    select s.*
    from (
      select k.*,
        sum(100 + coalesce(pg_column_size(k.headers), 0)
          + case when pg_column_compression(k.payload) is null then pg_column_size(k.payload)
            else octet_length(k.payload::text) end)
          over (order by k.id rows between unbounded preceding and 1 preceding) as bytes_before
      from kept k
      where coalesce(k.stored_before, 0) < max_bytes
    ) s
    where coalesce(s.bytes_before, 0) < max_bytes
    order by s.id
  ),
  reach as (
    select case
      when c.rows = max_rows or c.rows < (select count(*) from kept) then c.last_id
      else coalesce(
        (select l.id from hark.log l where l.id > p.last_id and l.id <= p.target_max
          order by l.id offset max_scanned - 1 limit 1),
        p.target_max)
    end as last_id
    from (select count(*) as rows, max(k.id) as last_id from page k) c
  )
  select k.id, k.channel, k.key, k.payload, k.headers, k.created_at,
    case when k.id <= complete_through then true else pg_visible_in_snapshot(k.xid, started) end,
    null::hark.position, null, null
  from page k
  union all
  select null, null, null, null, null, null, null,
    row(p.seen, p.seen_max, p.floor, p.stragglers, p.lows, p.target, p.target_max, r.last_id,
      p.incarnation)::hark.position,
    r.last_id >= p.target_max, p.target_max - least(p.floor, p.last_id)
  from reach r;
end
$$;

-- Moves a position past its open window once that is read to the end, else returns it as it is. The caller
-- must put a fence between the opening of this window and of the next (see the head of this file).
create function hark.window_advance(p hark.position) returns hark.position
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  w hark.position;
begin
  if p.target is null or p.last_id < p.target_max then
    return p;
  end if;
  w.seen := p.target;
  w.seen_max := p.target_max;
  w.floor := p.seen_max;
  w.incarnation := p.incarnation;
  select coalesce(array_agg(x.xid), '{}') into w.stragglers from pg_snapshot_xip(p.target) x (xid);
  w.lows := hark.lows_of(w.stragglers, p.stragglers, p.lows, p.floor);
  if w.floor - (select min(t.low) from unnest(w.lows) t (low)) > 1000 then
    w.lows := hark.raise_lows(w.stragglers, w.lows);
  end if;
  return w;
end
$$;

revoke execute on all functions in schema hark from public;
`,
  },
  {
    version: 3,
    name: "starts",
    sql: `-- Hark 003: where readers begin: waymarks made now and then, and starts that rest on them.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (3, 'starts');

-- Stores a waymark when the newest is at least so many ids and so old behind; returns whether it did.
-- Does nothing in a transaction that has written, or on a standby.
create function hark.waymark(min_ids bigint default 10000, min_age interval default '1 minute')
returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  last hark.waymarks;
  here hark.position;
begin
  perform hark.require_fresh_snapshot();
  -- One statement: that the newest waymark is visible in this snapshot makes its transaction the fence.
  select pg_current_snapshot(), hark.drawn(),
    w.number, w.taken_at, w.seen, w.seen_max, w.floor, w.stragglers, w.lows, w.fence
  into here.seen, here.seen_max,
    last.number, last.taken_at, last.seen, last.seen_max, last.floor, last.stragglers, last.lows, last.fence
  from (select * from hark.waymarks order by number desc limit 1) w;
  here.seen_max := greatest(here.seen_max, last.seen_max);
  if here.seen_max - last.seen_max < min_ids
    and (here.seen_max = last.seen_max or clock_timestamp() < last.taken_at + min_age)
  then
    return false;
  end if;
  select coalesce(array_agg(x.xid), '{}') into here.stragglers from pg_snapshot_xip(here.seen) x (xid);
  here.lows := hark.raise_lows(here.stragglers,
    hark.lows_of(here.stragglers, last.stragglers, last.lows, last.floor));
  insert into hark.waymarks
  values (last.number + 1, clock_timestamp(), here.seen, here.seen_max, last.seen_max,
    here.stragglers, here.lows, pg_current_xact_id())
  on conflict do nothing;
  return found;
end
$$;

-- Where a reader begins. It must write, or take a number, and end, before it opens its first window: this
-- call is then the fence that lets seen_max, taken here, be that window's next floor.
--   now        what was not visible yet: also what a transaction running now commits later
--   beginning  everything in the log
--   id         that id and above
--   time       at least all that was committed since (from the last waymark before it)
create function hark.start_position(start_kind text, start_id bigint, start_time timestamptz)
returns hark.position
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  p hark.position;
  last hark.waymarks;
begin
  perform hark.require_fresh_snapshot();
  select pg_current_snapshot(), hark.drawn(),
    w.seen_max, w.floor, w.stragglers, w.lows
  into p.seen, p.seen_max, last.seen_max, last.floor, last.stragglers, last.lows
  from (select * from hark.waymarks order by number desc limit 1) w;
  p.seen_max := greatest(p.seen_max, last.seen_max);
  if start_kind = 'now' then
    p.floor := last.seen_max;
    select coalesce(array_agg(x.xid), '{}') into p.stragglers from pg_snapshot_xip(p.seen) x (xid);
    p.lows := hark.raise_lows(p.stragglers,
      hark.lows_of(p.stragglers, last.stragglers, last.lows, last.floor));
  elsif start_kind = 'beginning' then
    p.seen := '1:1:'; p.floor := 0; p.stragglers := '{}'; p.lows := '{}';
  elsif start_kind = 'id' then
    if start_id is null or start_id < 1 or start_id > p.seen_max + 1 then
      raise exception 'there is no place to start at id %: the log has drawn ids up to %', start_id, p.seen_max
        using errcode = 'HK006', hint = 'Give an id of the log, or start from "now".';
    end if;
    p.seen := '1:1:'; p.floor := start_id - 1; p.stragglers := '{}'; p.lows := '{}';
  elsif start_kind = 'time' then
    if start_time is null then
      raise exception 'a start by time needs a time' using errcode = 'HK006', hint = 'Give a timestamp.';
    end if;
    select w.seen, w.floor, w.stragglers, w.lows into strict p.seen, p.floor, p.stragglers, p.lows
    from hark.waymarks w where w.taken_at <= start_time order by w.number desc limit 1;
  else
    raise exception 'unknown start "%"', start_kind
      using errcode = 'HK006', hint = 'Start from "now", "beginning", an id or a time.';
  end if;
  p.incarnation := hark.incarnation();
  return p;
end
$$;

revoke execute on all functions in schema hark from public;
`,
  },
  {
    version: 4,
    name: "consumers",
    sql: `-- Hark 004: consumers, who serves them, and how far they have read.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (4, 'consumers');

create table hark.consumers (
  name text primary key,
  channels text[] not null,
  created_at timestamptz not null default clock_timestamp(),
  constraint name_is_1_to_200_characters check (char_length(name) between 1 and 200),
  constraint consumer_has_a_channel check (cardinality(channels) > 0)
);

-- Updated on every acknowledgement, so rows stay small and find room on their own page.
create table hark.partitions (
  consumer text not null references hark.consumers on update cascade on delete cascade,
  partition integer not null default 0 check (partition >= 0),
  "position" hark.position not null,
  -- Who serves it. The epoch rises with each claim and fences out whoever held an earlier one.
  epoch bigint not null default 0,
  owner uuid,
  owner_session bigint,        -- advisory lock key held by the owner's LISTEN session, where it has one
  lease_until timestamptz,
  -- What became of it.
  handled bigint not null default 0,
  acknowledged_at timestamptz,
  failing_id bigint,           -- the notification being retried, null when none is
  attempts integer not null default 0,
  last_error text,
  failed_at timestamptz,
  primary key (consumer, partition)
) with (fillfactor = 50);

-- After a dump and restore into another cluster, that server gives out transaction numbers that the log
-- already holds, and every stored snapshot is meaningless. Seen by the server's identity; then, with
-- publishing stopped for a moment, all that is stored counts as complete, and every position goes back to
-- where it can be sure of: repeats rather than losses. pg_upgrade keeps the numbers and needs none of it.
-- That this server's numbers have passed all stored ones by now would prove nothing: what was published here
-- before they did, before any reader came, has numbers that the stored snapshots count as seen.
create function hark.rebase() returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  here bigint;
  highest xid8;
  own xid8;
  upgraded boolean;
  through bigint;
begin
  select c.system_identifier into here from pg_control_system() c;
  if exists (select from hark.install i where i.system_identifier = here) or pg_is_in_recovery() then
    return false;
  end if;
  lock table hark.log in share row exclusive mode;
  if exists (select from hark.install i where i.system_identifier = here) then
    return false;
  end if;
  own := pg_current_xact_id();
  select x.xid into highest from (
    (select l.xid from hark.log l order by l.xid desc limit 1)
    union all
    (select pg_snapshot_xmax(w.seen) from hark.waymarks w)
    union all
    (select greatest(pg_snapshot_xmax((p.position).seen),
      coalesce(pg_snapshot_xmax((p.position).target), pg_snapshot_xmax((p.position).seen)))
    from hark.partitions p)
  ) x order by x.xid desc limit 1;
  select i.written_by = i.xmin into upgraded from hark.install i;
  if upgraded and (highest is null or highest < own) then
    update hark.install set system_identifier = here;
    update hark.install i set written_by = i.xmin;
    return false;
  end if;
  through := hark.drawn();
  update hark.install set system_identifier = here, rebased_through = through;
  update hark.install i set written_by = i.xmin;
  delete from hark.incarnation;
  delete from hark.waymarks;
  insert into hark.waymarks values
    (0, '-infinity', '1:1:', through, 0, '{}', '{}', own),
    (1, clock_timestamp(), '1:1:', through, through, '{}', '{}', own);
  update hark.partitions p set
    "position" = row('1:1:'::pg_snapshot, through,
      least((p.position).floor, (select min(t.low) from unnest((p.position).lows) t (low))),
      '{}'::xid8[], '{}'::bigint[], null, null, null, null)::hark.position,
    epoch = p.epoch + 1, owner = null, owner_session = null, lease_until = null;
  return true;
end
$$;
comment on function hark.rebase() is
  'Makes the log readable on a server it was restored to; does nothing elsewhere. Called by every reader as it starts.';

-- The channels of a consumer; null where there is none of that name.
create function hark.channels_of(consumer text) returns text[]
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$ select c.channels from hark.consumers c where c.name = $1 $$;

-- Registers a consumer where there is none of that name (returns true), else replaces its channels. A
-- channel added to a consumer that exists is delivered from where the consumer stands.
create function hark.register(
  consumer text, channels text[], start_kind text default 'beginning',
  start_id bigint default null, start_time timestamptz default null
) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  start hark.position;
begin
  if exists (select from hark.consumers c where c.name = $1 and c.channels = $2) then
    return false;
  end if;
  perform hark.require_fresh_snapshot();
  -- Held against hark.clean: what is published and removed between this snapshot and this commit would be
  -- this consumer's, and gone.
  lock table hark.consumers in row exclusive mode;
  start := hark.start_position(start_kind, start_id, start_time);
  insert into hark.consumers (name, channels) values ($1, $2) on conflict do nothing;
  if found then
    insert into hark.partitions (consumer, "position") values ($1, start);
    return true;
  end if;
  update hark.consumers c set channels = $2 where c.name = $1 and c.channels <> $2;
  return false;
end
$$;

-- Tries to become the owner of a partition. Outcomes:
--   claimed  it is yours, under the epoch returned
--   held     somebody else's lease runs for wait_ms more
--   gone     its lease runs, but the session that stood for the owner has ended: wait a moment, so that an
--            owner that is only reconnecting can come back, then claim with presume_gone
create function hark.claim(
  consumer text, partition integer, owner uuid, owner_session bigint, lease_ms integer,
  presume_gone boolean default false
) returns table (
  outcome text, epoch bigint, wait_ms double precision, "position" text, in_window boolean, started text,
  failing_id bigint, attempts integer, incarnation text
)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  held hark.partitions;
begin
  select * into held from hark.partitions p where p.consumer = $1 and p.partition = $2 for update;
  if not found then
    raise exception 'there is no consumer "%"', $1
      using errcode = 'HK007', hint = 'Register it first; somebody may have removed it.';
  end if;
  if held.owner is not null and held.owner <> $3 and held.lease_until > clock_timestamp() then
    if held.owner_session is null or not pg_try_advisory_xact_lock(held.owner_session) then
      return query select 'held'::text, held.epoch,
        extract(epoch from held.lease_until - clock_timestamp())::double precision * 1000,
        null::text, null::boolean, null::text, null::bigint, null::integer, null::text;
      return;
    elsif not presume_gone then
      return query select 'gone'::text, held.epoch, 1000::double precision, null::text, null::boolean,
        null::text, null::bigint, null::integer, null::text;
      return;
    end if;
  end if;
  return query
  -- What is stored has survived any crash, which what a worker remembers may not have.
  update hark.partitions p set
    epoch = p.epoch + 1, owner = $3, owner_session = $4, "position".incarnation = null,
    lease_until = clock_timestamp() + make_interval(secs => lease_ms / 1000.0)
  where p.consumer = $1 and p.partition = $2
  returning 'claimed'::text, p.epoch, 0::double precision, p.position::text,
    (p.position).target is not null, pg_current_snapshot()::text, p.failing_id, p.attempts,
    hark.incarnation()::text;
end
$$;

create function hark.raise_fenced(consumer text, partition integer, epoch bigint) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'consumer "%" is no longer served under epoch % of partition %', $1, $3, $2
    using errcode = 'HK005',
      hint = 'Another worker has taken it over, or it was removed. Claim it again.';
end
$$;

-- What an owner reads next: its position with a window open, and the channels of the consumer.
create function hark.window(consumer text, partition integer, owner uuid, epoch bigint, p hark.position)
returns table ("position" hark.position, channels text[])
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp rows 1
as $$
declare
  wanted text[];
begin
  select c.channels into wanted
  from hark.partitions s join hark.consumers c on c.name = s.consumer
  where s.consumer = $1 and s.partition = $2 and s.owner = $3 and s.epoch = $4;
  if not found then
    perform hark.raise_fenced($1, $2, $4);
  end if;
  return query select hark.window_open(p), wanted;
end
$$;

-- Stores how far the owner has read and handled: to the end of the page that gave it \`p\`, or only through
-- an id of that page. Advances past a window that is read to its end, renews the lease, and returns the
-- position to go on from. In a transaction of its own it is the fence between two windows. In one that has
-- written already it may be none, as that one's number may be older than the window: the position then keeps
-- its older seen_max, so that the next floor does not rise and nothing is lost.
create function hark.acknowledge(
  consumer text, partition integer, owner uuid, epoch bigint, p hark.position,
  handled bigint, lease_ms integer, through bigint default null
) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  writing boolean := pg_current_xact_id_if_assigned() is not null;
  moved hark.position;
begin
  if p.incarnation is distinct from hark.incarnation() then
    raise exception 'the server has restarted after a crash since this window was opened'
      using errcode = 'HK004', hint = 'Load the stored position and open a new window.';
  end if;
  if through is not null then
    p.last_id := through;
  end if;
  moved := hark.window_advance(p);
  if writing then
    moved.seen_max := p.seen_max;
  end if;
  update hark.partitions s set
    "position" = moved,
    handled = s.handled + $6,
    acknowledged_at = case when $6 > 0 then clock_timestamp() else s.acknowledged_at end,
    failing_id = case when $6 > 0 then null else s.failing_id end,
    attempts = case when $6 > 0 then 0 else s.attempts end,
    lease_until = clock_timestamp() + make_interval(secs => lease_ms / 1000.0)
  where s.consumer = $1 and s.partition = $2 and s.owner = $3 and s.epoch = $4;
  if not found then
    perform hark.raise_fenced($1, $2, $4);
  end if;
  return moved::text;
end
$$;

-- Renews the lease. An owner whose LISTEN session has ended renews without one: from then on its lease alone
-- counts, and nobody takes over only because the session's lock is free.
create function hark.renew(
  consumer text, partition integer, owner uuid, epoch bigint, lease_ms integer,
  owner_session bigint default null
) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update hark.partitions s
  set owner_session = $6,
    lease_until = clock_timestamp() + make_interval(secs => lease_ms / 1000.0)
  where s.consumer = $1 and s.partition = $2 and s.owner = $3 and s.epoch = $4;
  if not found then
    perform hark.raise_fenced($1, $2, $4);
  end if;
end
$$;

-- Remembers a failed attempt, so that the next worker goes on counting and \`hark status\` can tell.
create function hark.record_failure(
  consumer text, partition integer, owner uuid, epoch bigint, id bigint, attempt integer, error text
) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update hark.partitions s
  set failing_id = $5, attempts = $6, last_error = left($7, 10000), failed_at = clock_timestamp()
  where s.consumer = $1 and s.partition = $2 and s.owner = $3 and s.epoch = $4;
  if not found then
    perform hark.raise_fenced($1, $2, $4);
  end if;
end
$$;

-- Gives the partition back, so that the next worker need not wait for the lease. Nothing to do when it
-- is no longer the caller's.
create function hark.release(consumer text, partition integer, owner uuid, epoch bigint) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update hark.partitions s set owner = null, owner_session = null, lease_until = null
  where s.consumer = $1 and s.partition = $2 and s.owner = $3 and s.epoch = $4;
  return found;
end
$$;

revoke execute on all functions in schema hark from public;
`,
  },
  {
    version: 5,
    name: "operate",
    sql: `-- Hark 005: who may do what, how far everybody is, and cleaning.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (5, 'operate');

create function hark.grant_functions(role_name text, functions text[]) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  f regprocedure;
begin
  if not exists (select from pg_roles r where r.rolname = role_name) then
    raise exception 'there is no role "%"', role_name
      using errcode = 'HK006', hint = 'Create it first; names are case-sensitive here.';
  end if;
  execute format('grant usage on schema hark to %I', role_name);
  for f in
    select p.oid from pg_proc p
    where p.pronamespace = 'hark'::regnamespace and p.proname = any (functions)
  loop
    execute format('grant execute on function %s to %I', f, role_name);
  end loop;
end
$$;

create function hark.grant_publish(role_name text) returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$ select hark.grant_functions(role_name, array['version', 'notify', 'smart_notify', 'notify_many']) $$;
comment on function hark.grant_publish(text) is 'Lets a role publish. Run it as the owner of the schema.';

create function hark.grant_consume(role_name text) returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select hark.grant_functions(role_name, array[
    'version', 'rebase', 'waymark', 'timeline', 'start_position', 'window_open', 'window_read', 'window_advance',
    'channels_of', 'register', 'claim', 'window', 'acknowledge', 'renew', 'record_failure', 'release', 'status'
  ])
$$;
comment on function hark.grant_consume(text) is
  'Lets a role read the log, register consumers and serve them: any of them, so such roles trust each other. Run it as the owner of the schema.';

-- Removes a consumer with its position, so that it no longer holds back cleaning; a worker that serves it ends
-- with an error. Returns whether there was one.
create function hark.remove_consumer(consumer text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  delete from hark.consumers c where c.name = $1;
  return found;
end
$$;
comment on function hark.remove_consumer(text) is
  'Removes a consumer and its position; what it had not read counts as read. For the owner of the schema.';

-- Whether a position is past a row.
create function hark.is_consumed(id bigint, xid xid8, p hark.position, rebased_through bigint)
returns boolean
language sql immutable security definer set search_path = pg_catalog, pg_temp
as $$
  select case
    when ($3).seen::text = '1:1:' and $1 <= ($3).floor then true
    when $1 <= $4 and ($3).seen::text <> '1:1:' then true
    when pg_visible_in_snapshot($2, ($3).seen) then true
    else ($3).target is not null and $1 <= ($3).last_id
      and ($1 <= $4 or pg_visible_in_snapshot($2, ($3).target))
  end
$$;

-- How far each consumer is. Counting stops at max_count, as nobody needs the exact size of a large backlog.
create function hark.status(max_count bigint default 100000) returns table (
  consumer text, channels text[], partition integer, unread bigint, oldest_unread timestamptz,
  lag_seconds double precision, owner uuid, lease_until timestamptz, handled bigint,
  acknowledged_at timestamptz, failing_id bigint, attempts integer, last_error text,
  failed_at timestamptz, created_at timestamptz
)
language sql volatile security definer set search_path = pg_catalog, pg_temp set jit = off
as $$
  select c.name, c.channels, p.partition, u.unread, u.oldest,
    coalesce(extract(epoch from greatest(clock_timestamp() - u.oldest, interval '0'))::double precision, 0),
    p.owner, p.lease_until, p.handled, p.acknowledged_at, p.failing_id, p.attempts, p.last_error,
    p.failed_at, c.created_at
  from hark.consumers c
  join hark.partitions p on p.consumer = c.name
  cross join hark.install i
  cross join lateral (
    select count(*) as unread, min(l.created_at) as oldest
    from (
      select l.created_at from hark.log l
      where l.id > least((p.position).floor, (select min(t.low) from unnest((p.position).lows) t (low)))
        and l.channel = any (c.channels)
        and not hark.is_consumed(l.id, l.xid, p.position, i.rebased_through)
      limit max_count
    ) l
  ) u
  order by c.name, p.partition
$$;

-- What a row takes, as stored: of the row as a whole pg_column_size would unpack the payload and tell its
-- size in memory. The rest of a row is 60 bytes or so.
create function hark.stored_bytes(channel text, key text, payload jsonb, headers jsonb) returns bigint
language sql stable
as $$
  select 60::bigint operator(pg_catalog.+) pg_catalog.pg_column_size($1)
    operator(pg_catalog.+) coalesce(pg_catalog.pg_column_size($2), 0)
    operator(pg_catalog.+) pg_catalog.pg_column_size($3)
    operator(pg_catalog.+) coalesce(pg_catalog.pg_column_size($4), 0)
$$;

-- Removes old notifications, a batch a call, in id order from after_id: those published before \`cutoff\` that
-- every consumer has read. \`forced\` removes them unread. With dry_run nothing is removed, only counted.
-- Returns where to go on (null: finished), how many were removed, how many that are old enough were kept,
-- and the bytes removed as stored.
create function hark.clean(
  cutoff timestamptz, after_id bigint default 0, batch integer default 10000,
  forced boolean default false, dry_run boolean default false
) returns table (next_id bigint, removed bigint, kept bigint, bytes bigint, last_created_at timestamptz)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set jit = off
as $$
declare
  through bigint;
  floor_of_all bigint;
  complete_through bigint;
  looked bigint;
begin
  -- On a server this was restored to, what nobody has read would look read.
  perform hark.rebase();
  -- Waits for registrations under way, and holds new ones back for this batch: see hark.register.
  lock table hark.consumers in share row exclusive mode;
  -- Nobody's window can hold a row at or below the lowest floor and low; those above are checked one by one.
  select min(least((p.position).floor, (select min(t.low) from unnest((p.position).lows) t (low))))
  into floor_of_all from hark.partitions p;
  select i.rebased_through into complete_through from hark.install i;
  select max(l.id), count(*), max(l.created_at), count(*) filter (where l.created_at < cutoff)
  into through, looked, last_created_at, kept
  from (
    select l.id, l.created_at from hark.log l where l.id > after_id order by l.id limit batch
  ) l;
  -- Ids and times run side by side, but for the moment between a call's clock and its id: a whole batch
  -- without an old row is the end.
  if looked = 0 or kept = 0 then
    return query select null::bigint, 0::bigint, 0::bigint, 0::bigint, last_created_at;
    return;
  end if;
  next_id := case when looked < batch then null else through end;
  if dry_run then
    select count(*), coalesce(sum(hark.stored_bytes(l.channel, l.key, l.payload, l.headers)), 0) into removed, bytes
    from hark.log l
    where l.id > after_id and l.id <= through and l.created_at < cutoff
      and (forced or floor_of_all is null or l.id <= floor_of_all
        or not exists (select from hark.partitions p
          where not hark.is_consumed(l.id, l.xid, p.position, complete_through)));
  else
    with gone as (
      delete from hark.log l
      where l.id > after_id and l.id <= through and l.created_at < cutoff
        and (forced or floor_of_all is null or l.id <= floor_of_all
          or not exists (select from hark.partitions p
            where not hark.is_consumed(l.id, l.xid, p.position, complete_through)))
      returning hark.stored_bytes(l.channel, l.key, l.payload, l.headers) as size
    )
    select count(*), coalesce(sum(g.size), 0) into removed, bytes from gone g;
    -- Waymarks below what is gone lead nowhere; the newest and the first stay.
    delete from hark.waymarks w
    where w.number > 0 and w.seen_max <= through and w.number < (select max(n.number) - 10 from hark.waymarks n);
  end if;
  kept := kept - removed;
  return next;
end
$$;

revoke execute on all functions in schema hark from public;
`,
  },
];
