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
  {
    version: 6,
    name: "delivery",
    sql: `-- Hark 006: what delivery to many workers keeps: who serves, what waits, what is given up.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (6, 'delivery');

-- What a consumer is belongs to its row, not to its workers: a change raises the generation and fences off
-- workers that were started with something else (hark.register).
alter table hark.consumers
  add column filter jsonb,
  add column transactional boolean not null default false,
  add column partitions integer not null default 1,
  add column generation bigint not null default 1,
  add column version integer not null default 0,   -- of its definition, by who deploys it: the highest wins
  add column paused_at timestamptz,
  -- Raised by whoever puts something into hark.waiting that is not the partition's owner.
  add column changes bigint not null default 0,
  -- A change of the number of partitions under way: every partition first reads to one common snapshot.
  add column next_partitions integer,
  add column barrier pg_snapshot,
  add column barrier_max bigint,
  add constraint filter_is_an_object check (jsonb_typeof(filter) = 'object'),
  add constraint partitions_are_1_to_1024 check (partitions between 1 and 1024),
  add constraint next_partitions_are_1_to_1024 check (next_partitions between 1 and 1024);

-- The processes that serve a consumer. A lease is the worker's, not the partition's, so that renewing it is
-- one update however many partitions it holds.
create table hark.workers (
  consumer text not null references hark.consumers on update cascade on delete cascade,
  owner uuid not null,
  session bigint,                -- advisory lock key held by its LISTEN session, where it has one
  lease_until timestamptz not null,
  joined_at timestamptz not null default clock_timestamp(),
  primary key (consumer, owner)
) with (fillfactor = 50);

alter table hark.partitions
  drop column owner_session,
  drop column lease_until,
  drop column failing_id,
  drop column attempts,
  -- How many owners in a row ended without giving it back, and did not get past what the first of them held.
  add column crashes integer not null default 0,
  -- The notification that is handled alone, to find out whether it is what ends them.
  add column trying_id bigint,
  -- The last one that was when an owner ended, and how many ended so in a row.
  add column suspect_id bigint,
  add column suspect_ends integer not null default 0,
  add column served_at timestamptz;
update hark.partitions set owner = null, epoch = epoch + 1;

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

-- The partition that a notification belongs to. One key always lies in one; null keys have no order.
create function hark.partition_of(key text, id bigint, partitions integer) returns integer
language sql immutable
as $$
  select case when $3 operator(pg_catalog.=) 1 then 0 else (
    case when $1 is null then $2
      else ('x' operator(pg_catalog.||) pg_catalog.left(pg_catalog.md5($1), 8))::pg_catalog.bit(32)::pg_catalog.int8
    end operator(pg_catalog.%) $3)::pg_catalog.int4
  end
$$;
comment on function hark.partition_of(text, bigint, integer) is
  'The partition of a key: the first 4 bytes of its md5, modulo their number.';

-- Whether a notification passes a consumer's filter: { "payload": …, "headers": …, "key": ["a", "b"] }, of
-- which payload and headers are compared by containment (jsonb @>). Paths and values, never SQL.
create function hark.matches(filter jsonb, key text, payload jsonb, headers jsonb) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select ($1 -> 'payload' is null or $3 @> ($1 -> 'payload'))
    and ($1 -> 'headers' is null or coalesce($4, '{}') @> ($1 -> 'headers'))
    and ($1 -> 'key' is null or coalesce(($1 -> 'key') ? $2, false))
$$;

-- How large a payload is, unpacked; null where it is not delivered: over 64 MB, or over 256 MB as text. A jsonb can be
-- so large that PostgreSQL cannot write it out at all (1 GB), JavaScript cannot hold it (512 MB), or a reader would
-- take longer for it than it may and try again for ever: such a one becomes a dead letter instead.
create function hark.readable_size(payload jsonb) returns bigint
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  -- Of a value made here, not of one that is stored compressed.
  unpacked bigint := pg_column_size(jsonb_build_array(payload));
begin
  if unpacked > 67108864 then
    return null;
  end if;
  -- A character takes six in text at most.
  if unpacked > 44739242 and octet_length(payload::text) > 268435456 then
    return null;
  end if;
  return unpacked;
end
$$;

drop function hark.window_read(hark.position, text[], integer, bigint, integer, pg_snapshot);

-- Reads a page of the open window: its rows, and one more row, with a null id, that carries the position
-- after them, whether that is the window's end, and how many ids the window spans. A page ends at max_rows
-- rows, with the row that passes max_bytes, or after max_scanned rows that were looked at, so that a rare
-- channel returns promptly too. A row whose payload cannot be read as text comes with a null payload.
--
-- Only rows of the partitions in \`held\` come, of so many; one scan serves all that a worker holds.
--
-- VOLATILE, so that each statement sees what has committed by now: a row complete in \`target\` need not be
-- visible to the statement that called this function and its opening.
create function hark.window_read(
  p hark.position, channels text[], max_rows integer, max_bytes bigint, max_scanned integer,
  started pg_snapshot, filter jsonb default null, partitions integer default 1,
  held integer[] default null
) returns table (
  id bigint, channel text, key text, payload jsonb, headers jsonb, created_at timestamptz,
  is_replay boolean, partition integer, "position" hark.position, window_end boolean, window_span bigint
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
      and (held is null or hark.partition_of(s.key, s.id, partitions) = any (held))
      and (filter is null or hark.matches(filter, s.key, s.payload, s.headers))
    order by s.id
    limit max_rows
  ),
  page as materialized (
    select s.*
    from (
      select k.*,
        sum(100 + coalesce(pg_column_size(k.headers), 0) + coalesce(k.bytes, 0))
          over (order by k.id rows between unbounded preceding and 1 preceding) as bytes_before
      from (
        select k.*,
          case when pg_column_size(k.payload) > 100000 then hark.readable_size(k.payload)
            when pg_column_compression(k.payload) is null then pg_column_size(k.payload)
            else octet_length(k.payload::text) end as bytes
        from kept k
        where coalesce(k.stored_before, 0) < max_bytes
        offset 0
      ) k
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
  select k.id, k.channel, k.key, case when k.bytes is not null then k.payload end, k.headers, k.created_at,
    case when k.id <= complete_through then true else pg_visible_in_snapshot(k.xid, started) end,
    hark.partition_of(k.key, k.id, partitions),
    null::hark.position, null, null
  from page k
  union all
  select null, null, null, null, null, null, null, null,
    row(p.seen, p.seen_max, p.floor, p.stragglers, p.lows, p.target, p.target_max, r.last_id,
      p.incarnation)::hark.position,
    r.last_id >= p.target_max, p.target_max - least(p.floor, p.last_id)
  from reach r;
end
$$;

revoke execute on all functions in schema hark from public;
`,
  },
  {
    version: 7,
    name: "registering",
    sql: `-- Hark 007: registering consumers: what a consumer is, and where it begins.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (7, 'registering');

drop function hark.register(text, text[], text, bigint, timestamptz);
drop function hark.claim(text, integer, uuid, bigint, integer, boolean);
drop function hark.window(text, integer, uuid, bigint, hark.position);
drop function hark.acknowledge(text, integer, uuid, bigint, hark.position, bigint, integer, bigint);
drop function hark.renew(text, integer, uuid, bigint, integer, bigint);
drop function hark.record_failure(text, integer, uuid, bigint, bigint, integer, text);
drop function hark.release(text, integer, uuid, bigint);
drop function hark.raise_fenced(text, integer, bigint);

-- Tells the workers of a consumer ('' is every consumer) to look at once at what was changed for them.
create function hark.nudge(consumer text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if coalesce(current_setting('hark.wake', true), '') <> 'off' and pg_notification_queue_usage() < 0.5 then
    perform pg_notify('hark_control', $1);
  end if;
end
$$;

create function hark.raise_fenced(consumer text, partitions integer[]) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'this worker no longer serves all of the partitions % of consumer "%"',
    array_to_string($2, ', '), $1
    using errcode = 'HK005',
      hint = 'Another worker has taken over, or the consumer was moved or removed. Claim them again.';
end
$$;

create function hark.raise_no_consumer(consumer text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'there is no consumer "%"', $1
    using errcode = 'HK007', hint = 'Register it first; somebody may have removed it.';
end
$$;

create function hark.as_set(names text[]) returns text[]
language sql immutable set search_path = pg_catalog, pg_temp
as $$ select coalesce(array_agg(distinct n.name collate "C" order by n.name collate "C"), '{}') from unnest($1) n (name) $$;

-- Registers a consumer where there is none of that name (returns true). Else what it is becomes what is given
-- here: where that differs, the generation rises and every worker that was started with something else is
-- fenced off, so that in a rolling deployment no old worker can move past what only the new ones want. What comes
-- with a lower version than is known changes nothing, so that an old worker that is started again does not either.
--
-- A channel added to a known consumer is read from where the consumer stands, unless channel_starts has an
-- earlier start for it: [{"channel": …, "kind": "beginning" | "id" | "time", "id": …, "time": …}]. The number
-- of partitions counts at registration only: see hark.repartition.
create function hark.register(
  consumer text, channels text[], start_kind text default 'beginning',
  start_id bigint default null, start_time timestamptz default null,
  filter jsonb default null, transactional boolean default false, partitions integer default 1,
  channel_starts jsonb default null, version integer default 0
) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  known hark.consumers;
  start hark.position;
  earlier record;
  since hark.position;
  added text[] := $2;
begin
  if partitions is null or partitions < 1 or partitions > 1024 then
    raise exception 'a consumer cannot have % partitions', coalesce(partitions::text, 'null')
      using errcode = 'HK006', hint = 'Give a number from 1 to 1024.';
  end if;
  if exists (
    select from hark.consumers c where c.name = $1 and hark.as_set(c.channels) = hark.as_set($2)
      and c.filter is not distinct from $6 and c.transactional = $7 and c.version >= $10
  ) then
    return false;
  end if;
  perform hark.require_fresh_snapshot();
  -- Held against hark.clean: what is published and removed between this snapshot and this commit would be
  -- this consumer's, and gone.
  lock table hark.consumers in row exclusive mode;
  start := hark.start_position(start_kind, start_id, start_time);
  insert into hark.consumers (name, channels, filter, transactional, partitions, version)
  values ($1, $2, $6, $7, $8, $10) on conflict do nothing;
  if found then
    insert into hark.partitions (consumer, partition, "position")
    select $1, n, start from generate_series(0, $8 - 1) n;
  else
    select * into known from hark.consumers c where c.name = $1 for no key update;
    if known.version > $10 then
      return false;
    end if;
    update hark.consumers c set version = $10 where c.name = $1;
    if hark.as_set(known.channels) = hark.as_set($2) and known.filter is not distinct from $6
      and known.transactional = $7
    then
      return false;
    end if;
    added := array(select n.name from unnest($2) n (name) where n.name <> all (known.channels));
    update hark.consumers c set channels = $2, filter = $6, transactional = $7, generation = c.generation + 1
    where c.name = $1;
    perform from hark.partitions s where s.consumer = $1 order by s.partition for update;
    update hark.partitions s set epoch = s.epoch + 1, owner = null where s.consumer = $1;
    perform hark.nudge($1);
  end if;
  for earlier in
    select * from jsonb_to_recordset(coalesce(channel_starts, '[]'))
      as e (channel text, kind text, id bigint, "time" timestamptz)
    where e.kind <> 'now' and e.channel = any (added)
  loop
    since := hark.start_position_of(earlier.kind, earlier.id, earlier."time");
    insert into hark.replays (consumer, channels, next_id, to_id, positions)
    values ($1, array[earlier.channel],
      1 + least(since.floor, (select min(t.low) from unnest(since.lows) t (low))), start.seen_max,
      array(select s.position from hark.partitions s where s.consumer = $1 order by s.partition));
  end loop;
  return known.name is null;
end
$$;

-- hark.start_position for a transaction that has written, where only the ids matter.
create function hark.start_position_of(kind text, id bigint, "time" timestamptz) returns hark.position
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  p hark.position;
begin
  if kind = 'beginning' then
    p.floor := 0;
  elsif kind = 'id' and id >= 1 then
    p.floor := id - 1;
  elsif kind = 'time' and "time" is not null then
    select w.floor, w.lows into strict p.floor, p.lows
    from hark.waymarks w where w.taken_at <= $3 order by w.number desc limit 1;
  else
    raise exception 'a channel cannot start from % (id %, time %)', kind, id, "time"
      using errcode = 'HK006', hint = 'Give "beginning", an id, a time, or "now".';
  end if;
  return p;
end
$$;

revoke execute on all functions in schema hark from public;
`,
  },
  {
    version: 8,
    name: "serving",
    sql: `-- Hark 008: many workers for one consumer: reporting, sharing partitions, taking over, giving back.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (8, 'serving');

-- Renews a worker's lease (where \`renew\`), and tells it what it may hold:
--   outcome    serve, or outdated: the consumer is something else by now than what this worker was started with
--   share      how many partitions are its fair share among the workers that live
--   mine       the partitions it holds, with their epochs
--   free       partitions that nobody holds
--   gone       partitions of an owner whose lease runs, but whose LISTEN session has ended: wait a second, so
--              that one that is only reconnecting can come back, then claim them with presume_gone
--   releasing  the number of partitions is to change: settle what is in hand and give everything back
create function hark.attend(
  consumer text, owner uuid, session bigint, lease_ms integer, renew boolean,
  channels text[], filter jsonb, transactional boolean
) returns table (
  outcome text, partitions integer, share integer, workers integer, mine integer[], epochs bigint[],
  free integer[], gone integer[], paused boolean, releasing boolean, changes bigint, replays boolean,
  next_due_ms double precision
)
language plpgsql volatile security definer rows 1 set search_path = pg_catalog, pg_temp
as $$
declare
  c hark.consumers;
  place integer;
begin
  select * into c from hark.consumers k where k.name = $1;
  if not found then
    perform hark.raise_no_consumer($1);
  end if;
  if hark.as_set(c.channels) <> hark.as_set($6) or c.filter is distinct from $7 or c.transactional <> $8 then
    delete from hark.workers w where w.consumer = $1 and w.owner = $2;
    select count(*) into workers from hark.workers w where w.consumer = $1 and w.lease_until > clock_timestamp();
    outcome := 'outdated';
    partitions := c.partitions;
    share := 0; mine := '{}'; epochs := '{}'; free := '{}'; gone := '{}';
    paused := c.paused_at is not null; releasing := false; changes := c.changes; replays := false;
    return next;
    return;
  end if;
  if renew or not exists (select from hark.workers w where w.consumer = $1 and w.owner = $2) then
    insert into hark.workers (consumer, owner, session, lease_until)
    values ($1, $2, $3, clock_timestamp() + make_interval(secs => lease_ms / 1000.0))
    on conflict on constraint workers_pkey do update
      set session = excluded.session, lease_until = excluded.lease_until,
        -- One that was taken for dead comes back as the youngest, and takes nothing from those who took over.
        joined_at = case when workers.lease_until > clock_timestamp() then workers.joined_at else clock_timestamp() end;
    if not found then
      raise exception 'the worker could not be entered' using errcode = 'XX000';
    end if;
  end if;
  if c.next_partitions is not null then
    perform hark.turn_partitions($1);
    select * into c from hark.consumers k where k.name = $1;
  end if;
  with others as materialized (
    select w.owner, w.session, w.joined_at, w.lease_until > clock_timestamp() as leased
    from hark.workers w where w.consumer = $1 and w.owner <> $2
  ),
  alive as materialized (
    select o.owner, o.joined_at,
      case when not o.leased then 'expired'
        -- Shared, so that two workers that ask at once do not take each other for the owner.
        when o.session is not null then case when pg_try_advisory_xact_lock_shared(o.session) then 'gone' else 'alive' end
        else 'alive' end as state
    from others o
  ),
  held as materialized (
    select s.partition, s.epoch, s.owner,
      case when s.owner is null then 'free' when s.owner = $2 then 'mine'
        else coalesce((select case a.state when 'expired' then 'free' else a.state end from alive a where a.owner = s.owner), 'free')
      end as state,
      c.barrier is not null and (s.position).target is null and (s.position).seen::text = c.barrier::text as settled
    from hark.partitions s where s.consumer = $1
  )
  select
    (select count(*) from alive a where a.state = 'alive') + 1,
    (select count(*) from alive a, hark.workers me where me.consumer = $1 and me.owner = $2
      and a.state = 'alive' and (a.joined_at, a.owner) < (me.joined_at, me.owner)),
    coalesce(array_agg(h.partition order by h.partition) filter (where h.state = 'mine'), '{}'),
    coalesce(array_agg(h.epoch order by h.partition) filter (where h.state = 'mine'), '{}'),
    coalesce(array_agg(h.partition order by h.partition) filter (where h.state = 'free' and not h.settled), '{}'),
    coalesce(array_agg(h.partition order by h.partition) filter (where h.state = 'gone'), '{}')
  into attend.workers, place, attend.mine, attend.epochs, attend.free, attend.gone
  from held h;
  outcome := 'serve';
  partitions := c.partitions;
  share := c.partitions / workers + case when place < c.partitions % workers then 1 else 0 end;
  paused := c.paused_at is not null;
  releasing := c.next_partitions is not null and c.barrier is null;
  changes := c.changes;
  replays := exists (select from hark.replays r where r.consumer = $1);
  select extract(epoch from d.deliver_at - clock_timestamp())::double precision * 1000 into next_due_ms
  from hark.delayed d order by d.deliver_at limit 1;
  if renew then
    -- Those who ended without a word; since when is remembered for those who drop inactive consumers.
    with ended as (
      delete from hark.workers w where w.consumer = $1 and w.lease_until < clock_timestamp() - interval '10 minutes'
      returning w.lease_until
    )
    update hark.partitions s set served_at = greatest(s.served_at, (select max(e.lease_until) from ended e))
    where s.consumer = $1 and s.partition = 0 and exists (select from ended);
  end if;
  return next;
end
$$;

-- Becomes the owner of those of the wanted partitions that nobody else has a right to. An owner that did not give
-- it back may have been ended by what it was handling: \`crashes\` counts them.
create function hark.claim(
  consumer text, wanted integer[], owner uuid, presume_gone boolean default false
) returns table (
  partition integer, epoch bigint, "position" text, in_window boolean, started text, crashes integer,
  suspect_id bigint, suspect_ends integer, incarnation text
)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
-- A transaction of the last owner's may hold the row: see how the caller ends it.
set lock_timeout = '1s'
as $$
begin
  if not exists (
    select from hark.workers w where w.consumer = $1 and w.owner = $3 and w.lease_until > clock_timestamp()
  ) then
    return;
  end if;
  perform from hark.partitions s where s.consumer = $1 and s.partition = any (wanted)
  order by s.partition for update;
  return query
  with may as materialized (
    select s.partition, s.owner is not null and s.owner <> $3 as ended
    from hark.partitions s
    join hark.consumers c on c.name = s.consumer
    left join hark.workers w on w.consumer = s.consumer and w.owner = s.owner
    where s.consumer = $1 and s.partition = any (wanted)
      and (c.next_partitions is null or c.barrier is not null)
      and case
        when s.owner is null or s.owner = $3 or w.owner is null or w.lease_until <= clock_timestamp() then true
        when presume_gone and w.session is not null then pg_try_advisory_xact_lock_shared(w.session)
        else false
      end
  )
  -- What is stored has survived any crash, which what a worker remembers may not have.
  update hark.partitions s set
    epoch = s.epoch + 1, owner = $3, "position".incarnation = null, served_at = clock_timestamp(),
    crashes = s.crashes + case when m.ended then 1 else 0 end,
    trying_id = null,
    suspect_id = case when m.ended and s.trying_id is not null then s.trying_id else s.suspect_id end,
    suspect_ends = case when not m.ended or s.trying_id is null then s.suspect_ends
      when s.trying_id = s.suspect_id then s.suspect_ends + 1 else 1 end
  from may m
  where s.consumer = $1 and s.partition = m.partition
  returning s.partition, s.epoch, s.position::text, (s.position).target is not null,
    pg_current_snapshot()::text, s.crashes, s.suspect_id, s.suspect_ends, hark.incarnation()::text;
end
$$;

-- The sessions in which an owner's handlers have transactions open: each holds this advisory lock.
create function hark.owner_key(owner uuid) returns bigint
language sql immutable set search_path = pg_catalog, pg_temp
as $$ select hashtextextended($1::text, 5237) $$;

-- The keys of the owners of partitions that have no right to them any more.
create function hark.lost_owners(consumer text, numbers integer[], claimant uuid) returns table (key bigint)
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  select hark.owner_key(s.owner)
  from hark.partitions s
  left join hark.workers w on w.consumer = s.consumer and w.owner = s.owner
  where s.consumer = $1 and s.partition = any ($2) and s.owner <> $3
    and (w.owner is null or w.lease_until <= clock_timestamp()
      or case when w.session is null then false else pg_try_advisory_xact_lock_shared(w.session) end)
$$;

-- Gives partitions back, so that the next worker need not wait for the lease. Those that are no longer the
-- caller's are passed over.
create function hark.release(consumer text, owner uuid, held integer[], epochs bigint[]) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  released integer;
begin
  perform from hark.partitions s where s.consumer = $1 and s.partition = any (held) order by s.partition for update;
  update hark.partitions s set owner = null, crashes = 0, trying_id = null, suspect_id = null,
    suspect_ends = 0, served_at = clock_timestamp()
  from unnest(held, epochs) h (partition, epoch)
  where s.consumer = $1 and s.partition = h.partition and s.owner = $2 and s.epoch = h.epoch;
  get diagnostics released = row_count;
  if released > 0 then
    perform hark.nudge($1);
  end if;
  return released;
end
$$;

-- A worker's farewell.
create function hark.leave(consumer text, owner uuid) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  delete from hark.workers w where w.consumer = $1 and w.owner = $2;
  perform hark.nudge($1);
end
$$;

revoke execute on all functions in schema hark from public;
`,
  },
  {
    version: 9,
    name: "reading",
    sql: `-- Hark 009: windows for several partitions: opened alike, passed without storing, made one.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (9, 'reading');

-- Opens a window up to a snapshot that is given rather than taken.
create function hark.window_open_to(p hark.position, target pg_snapshot, target_max bigint) returns hark.position
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  w hark.position := p;
begin
  if w.target is null then
    w.target := $2;
    w.target_max := greatest(p.seen_max, $3);
    select least(p.floor, min(t.low)) into w.last_id
    from unnest(p.stragglers, p.lows) t (xid, low)
    where pg_visible_in_snapshot(t.xid, w.target);
  end if;
  return hark.window_open(w);
end
$$;

-- What an owner reads next: a position with a window open, and what the consumer reads. With \`alike\`, a position
-- whose window was opened after \`p\` was loaded, it is opened up to the same snapshot, so that the two can be one
-- from its end on. \`bounded\` says that the number of partitions is changing, so that every window counts; \`settled\`
-- that there is no more to read until it has changed.
create function hark.window(
  consumer text, owner uuid, held integer[], epochs bigint[], p hark.position, alike hark.position default null
) returns table (
  "position" hark.position, channels text[], filter jsonb, partitions integer, bounded boolean, settled boolean
)
language plpgsql volatile security definer rows 1 set search_path = pg_catalog, pg_temp
as $$
declare
  c hark.consumers;
  served integer;
begin
  select count(*) into served
  from hark.partitions s
  where s.consumer = $1 and s.owner = $2
    and exists (select from unnest(held, epochs) h (partition, epoch) where h.partition = s.partition and h.epoch = s.epoch);
  if served <> cardinality(held) then
    perform hark.raise_fenced($1, $3);
  end if;
  select * into c from hark.consumers k where k.name = $1;
  bounded := c.barrier is not null;
  if (alike).incarnation is not null and (alike).incarnation <> hark.incarnation() then
    raise exception 'the server has restarted after a crash since that window was opened'
      using errcode = 'HK004', hint = 'Load the stored positions and open new windows.';
  end if;
  settled := c.barrier is not null and p.target is null and p.seen::text = c.barrier::text;
  "position" := case
    when p.target is null and c.barrier is not null then hark.window_open_to(p, c.barrier, c.barrier_max)
    when p.target is null and alike is not null then hark.window_open_to(p, (alike).target, (alike).target_max)
    else hark.window_open(p)
  end;
  channels := c.channels; filter := c.filter; partitions := c.partitions;
  return next;
end
$$;

-- As in 002, but for a window from a snapshot to the same snapshot, which brings nothing: were the floor to rise with
-- it, it would lag behind by nothing. Partitions that wait for others to get there are looked at again and again.
create or replace function hark.window_advance(p hark.position) returns hark.position
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  w hark.position;
begin
  if p.target is null or p.last_id < p.target_max then
    return p;
  end if;
  if p.target::text = p.seen::text then
    w := p;
    w.target := null; w.target_max := null; w.last_id := null;
    return w;
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

-- Moves past a window without storing that, to read ahead into the next one while this one is being handled: a
-- fence of its own, as its transaction takes a number after the opening and ends before the next.
create function hark.pass(p hark.position) returns hark.position
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform hark.require_fresh_snapshot();
  if pg_current_xact_id() is null then
    return null;
  end if;
  return hark.window_advance(p);
end
$$;

-- One position of two that have seen the same: what either may still have to look at.
create function hark.merged(a hark.position, b hark.position) returns hark.position
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  m hark.position := a;
begin
  if (a).seen::text <> (b).seen::text or (a).target is not null or (b).target is not null then
    raise exception 'positions that have not seen the same cannot be one' using errcode = 'XX000';
  end if;
  if (a).incarnation <> (b).incarnation then
    raise exception 'the server has restarted after a crash between these positions'
      using errcode = 'HK004', hint = 'Load the stored positions.';
  end if;
  m.incarnation := coalesce((a).incarnation, (b).incarnation);
  m.seen_max := least(a.seen_max, b.seen_max);
  m.floor := least(a.floor, b.floor);
  select coalesce(array_agg(least(x.low, (select y.low from unnest(b.stragglers, b.lows) y (xid, low) where y.xid = x.xid))
    order by x.place), '{}')
  into m.lows
  from unnest(a.stragglers, a.lows) with ordinality x (xid, low, place);
  return m;
end
$$;

revoke execute on all functions in schema hark from public;
`,
  },
  {
    version: 10,
    name: "settling",
    sql: `-- Hark 010: what became of notifications: acknowledged, done in a transaction, given up.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (10, 'settling');

-- Stores what an owner has done, all or nothing: how far each of its partitions is (positions: where a page
-- ended, or only through an id of that page; null where it has not moved), and what became of notifications that
-- did not simply succeed, a JSON array of
--   {"kind": "park", "id", "partition", "key", "state", "attempts", "due_ms", "error"}   it waits in hark.waiting
--   {"kind": "end", "id", "partition"}                                                     it waits no longer
--   {"kind": "dead", "id", "partition", "attempts", "error"}                               it is given up
-- Moves past windows that are read to their end, and returns the positions to go on from. It begins after those
-- windows were opened and in a transaction of its own, so it is the fence between them and the next.
create function hark.acknowledge(
  consumer text, owner uuid, held integer[], epochs bigint[], positions text[], throughs bigint[],
  handled bigint[], calm boolean[], outcomes json default null
) returns text[]
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  here uuid;
  served integer;
  moved text[] := positions;
  p hark.position;
  complete_through bigint;
begin
  perform hark.require_fresh_snapshot();
  here := hark.incarnation();
  select count(*) into served from (
    select from hark.partitions s
    where s.consumer = $1 and s.owner = $2
      and exists (select from unnest(held, epochs) h (partition, epoch) where h.partition = s.partition and h.epoch = s.epoch)
    order by s.partition
    for update
  ) s;
  if served <> cardinality(held) then
    perform hark.raise_fenced($1, $3);
  end if;
  for i in 1 .. cardinality(held) loop
    continue when positions[i] is null;
    if i > 1 and positions[i] = positions[i - 1] and throughs[i] is not distinct from throughs[i - 1] then
      moved[i] := moved[i - 1];
      continue;
    end if;
    p := positions[i]::hark.position;
    if p.incarnation is distinct from here then
      raise exception 'the server has restarted after a crash since this window was opened'
        using errcode = 'HK004', hint = 'Load the stored position and open a new window.';
    end if;
    if throughs[i] is not null then
      p.last_id := throughs[i];
    else
      p := hark.window_advance(p);
    end if;
    moved[i] := p::text;
  end loop;
  update hark.partitions s set
    "position" = coalesce(h.moved::hark.position, s.position),
    handled = s.handled + h.handled,
    acknowledged_at = clock_timestamp(),
    served_at = clock_timestamp(),
    crashes = case when h.calm then 0 else s.crashes end,
    trying_id = case when h.calm then null else s.trying_id end,
    suspect_id = case when h.calm then null else s.suspect_id end,
    suspect_ends = case when h.calm then 0 else s.suspect_ends end
  from unnest(held, moved, $7, calm) h (partition, moved, handled, calm)
  where s.consumer = $1 and s.partition = h.partition;
  if outcomes is not null then
    perform hark.settle($1, outcomes);
  end if;
  if exists (select from hark.done d where d.consumer = $1 and d.partition = any (held)) then
    select i.rebased_through into complete_through from hark.install i;
    delete from hark.done d
    using hark.partitions s
    where d.consumer = $1 and d.partition = any (held) and s.consumer = $1 and s.partition = d.partition
      and coalesce(
        (select hark.is_consumed(l.id, l.xid, s.position, complete_through) from hark.log l where l.id = d.id),
        true);
  end if;
  return moved;
end
$$;

-- The outcomes of hark.acknowledge; its caller has checked whose they are.
create function hark.settle(consumer text, outcomes json) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  insert into hark.waiting (consumer, id, partition, key, state, attempts, due_at, last_error, failed_at)
  select $1, o.id, o.partition, o.key, o.state, o.attempts,
    clock_timestamp() + make_interval(secs => coalesce(o.due_ms, 0) / 1000.0), left(o.error, 10000),
    case when o.error is not null then clock_timestamp() end
  from json_to_recordset(outcomes) as o (
    kind text, id bigint, partition integer, key text, state text, attempts integer,
    due_ms double precision, error text
  )
  where o.kind = 'park'
    -- Its handler's transaction may have committed since this was decided.
    and not exists (
      select from hark.done d where d.consumer = $1 and d.partition = o.partition and d.id = o.id
    )
  on conflict on constraint waiting_pkey do update set
    state = excluded.state, attempts = excluded.attempts, due_at = excluded.due_at,
    last_error = coalesce(excluded.last_error, waiting.last_error),
    failed_at = coalesce(excluded.failed_at, waiting.failed_at);
  with given_up as (
    select o.id, o.attempts, left(o.error, 10000) as error
    from json_to_recordset(outcomes) as o (kind text, id bigint, attempts integer, error text)
    where o.kind = 'dead'
  )
  insert into hark.dead (consumer, id, channel, key, payload, headers, created_at, attempts, error)
  select $1, g.id, coalesce(l.channel, w.channel), coalesce(l.key, w.key), coalesce(l.payload, w.payload),
    coalesce(l.headers, w.headers), coalesce(l.created_at, w.created_at), g.attempts, g.error
  from given_up g
  left join hark.log l on l.id = g.id
  left join hark.waiting w on w.consumer = $1 and w.id = g.id
  on conflict on constraint dead_pkey do update set
    attempts = excluded.attempts, error = excluded.error, died_at = clock_timestamp();
  delete from hark.waiting w
  using json_to_recordset(outcomes) as o (kind text, id bigint)
  where w.consumer = $1 and w.id = o.id and o.kind in ('end', 'dead');
  -- A position may not have passed it yet, where one before it is still in hand.
  insert into hark.done (consumer, partition, id)
  select $1, o.partition, o.id
  from json_to_recordset(outcomes) as o (kind text, id bigint, partition integer)
  join hark.partitions s on s.consumer = $1 and s.partition = o.partition
  join hark.log l on l.id = o.id
  cross join hark.install i
  where o.kind in ('end', 'dead') and not hark.is_consumed(l.id, l.xid, s.position, i.rebased_through)
  on conflict do nothing;
end
$$;

-- Begins a handler's transaction: who ends an owner finds its sessions by the lock, and the server ends one that
-- is idle for longer than its lease.
create function hark.begin_handling(owner uuid, lease_ms integer) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  perform set_config('idle_in_transaction_session_timeout', lease_ms::text, true);
  perform set_config('hark.handling', owner::text, true);
  perform pg_advisory_xact_lock_shared(hark.owner_key(owner));
end
$$;

-- Ends a handler's transaction, as its last statement: refused where the caller is no longer the owner, which no
-- other can become before this transaction is over. What is done is remembered with it.
create function hark.finish(
  consumer text, owner uuid, held integer[], epochs bigint[], ids bigint[], id_partitions integer[]
) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  served integer;
begin
  select count(*) into served from (
    select from hark.partitions s
    where s.consumer = $1 and s.owner = $2
      and exists (select from unnest(held, epochs) h (partition, epoch) where h.partition = s.partition and h.epoch = s.epoch)
    order by s.partition
    for share
  ) s;
  if served <> cardinality(held) then
    perform hark.raise_fenced($1, $3);
  end if;
  if coalesce(current_setting('hark.handling', true), '') <> owner::text then
    raise exception 'the handler has ended its transaction by itself'
      using errcode = 'HK001', hint = 'Leave COMMIT and ROLLBACK to Hark: throw to roll back.';
  end if;
  delete from hark.waiting w where w.consumer = $1 and w.id = any (ids);
  -- Also for one that waited: its position may not have passed it yet. The next acknowledgement knows.
  insert into hark.done (consumer, partition, id)
  select $1, n.partition, n.id from unnest(id_partitions, ids) n (partition, id)
  on conflict do nothing;
end
$$;

-- Remembers which notification is handled alone, before it is: whoever takes over then knows what ended the last
-- owner.
create function hark.trying(consumer text, owner uuid, partition integer, epoch bigint, id bigint) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update hark.partitions s set trying_id = $5
  where s.consumer = $1 and s.partition = $3 and s.owner = $2 and s.epoch = $4;
  if not found then
    perform hark.raise_fenced($1, array[$3]);
  end if;
end
$$;

revoke execute on all functions in schema hark from public;
`,
  },
  {
    version: 11,
    name: "waiting",
    sql: `-- Hark 011: what waits: to be tried again, behind such a one, to be handled once more.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (11, 'waiting');

-- What waits in partitions, in order of ids, without the notifications themselves, and whether the partition's
-- position has passed it: where not, it will be read again and is to be passed over then.
create function hark.waiting_of(consumer text, held integer[], after_id bigint, max_rows integer)
returns table (
  id bigint, partition integer, key text, state text, attempts integer, due_ms double precision, passed boolean
)
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  select w.id, w.partition, w.key, w.state, w.attempts,
    greatest(0, extract(epoch from w.due_at - clock_timestamp()))::double precision * 1000,
    coalesce((
      select hark.is_consumed(l.id, l.xid, s.position, i.rebased_through)
      from hark.log l, hark.partitions s, hark.install i
      where l.id = w.id and s.consumer = w.consumer and s.partition = w.partition
    ), true)
  from hark.waiting w
  where w.consumer = $1 and w.partition = any ($2) and w.id > $3
  order by w.id
  limit $4
$$;

-- What is done beyond the positions of partitions.
create function hark.done_of(consumer text, held integer[]) returns table (id bigint, partition integer)
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$ select d.id, d.partition from hark.done d where d.consumer = $1 and d.partition = any ($2) $$;

-- Whether partitions still have something unread that was committed in a snapshot.
create function hark.is_behind(consumer text, numbers integer[], target pg_snapshot) returns boolean
language sql volatile security definer set search_path = pg_catalog, pg_temp set jit = off
as $$
  select exists (
    select from hark.consumers c
    join hark.partitions s on s.consumer = c.name
    cross join hark.install i
    join hark.log l on l.id > least((s.position).floor, (select min(t.low) from unnest((s.position).lows) t (low)))
    where c.name = $1 and s.partition = any ($2)
      and l.channel = any (c.channels)
      and hark.partition_of(l.key, l.id, c.partitions) = s.partition
      and (c.filter is null or hark.matches(c.filter, l.key, l.payload, l.headers))
      and pg_visible_in_snapshot(l.xid, $3)
      and not hark.is_consumed(l.id, l.xid, s.position, i.rebased_through)
  )
$$;

-- The notifications of waiting rows, from the log or from their copies, as far as they fit into so many bytes beyond
-- the first; a null channel where neither has one.
create function hark.waiting_rows(consumer text, ids bigint[], max_bytes bigint)
returns table (
  id bigint, channel text, key text, payload jsonb, headers jsonb, created_at timestamptz, fits boolean
)
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  select b.id, b.channel, b.key, case when b.fits and b.bytes is not null then b.payload end, b.headers, b.created_at,
    b.fits
  from (
    select n.*,
      coalesce(sum(coalesce(n.bytes, 0) + 100)
        over (order by n.id rows between unbounded preceding and 1 preceding), 0) < $3 as fits
    from (
      select w.id, n.channel, n.key, n.payload, n.headers, n.created_at,
        case when pg_column_size(n.payload) > 100000 then hark.readable_size(n.payload)
          else 3 * pg_column_size(n.payload) end as bytes
      from hark.waiting w
      left join lateral (
        select l.channel, l.key, l.payload, l.headers, l.created_at from hark.log l where l.id = w.id
        union all
        select w.channel, w.key, w.payload, w.headers, w.created_at where w.channel is not null
        limit 1
      ) n on true
      where w.consumer = $1 and w.id = any ($2)
      offset 0
    ) n
  ) b
  order by b.id
$$;

-- Moves some of what is to be replayed to hark.waiting: of a range, what the consumer's channels and filter want
-- and its positions had passed when that was asked for (the rest comes in its turn). Returns how many ids were looked at.
create function hark.feed(consumer text, batch integer default 500) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  r hark.replays;
  c hark.consumers;
  through bigint;
  looked integer;
  complete_through bigint;
begin
  select * into r from hark.replays x where x.consumer = $1 order by x.number limit 1 for update skip locked;
  if not found then
    return 0;
  end if;
  -- Held against a change of partitions.
  select * into c from hark.consumers k where k.name = $1 for no key update;
  select i.rebased_through into complete_through from hark.install i;
  select max(l.id), count(*) into through, looked
  from (
    select l.id from hark.log l where l.id >= r.next_id and l.id <= r.to_id order by l.id limit batch
  ) l;
  insert into hark.waiting (consumer, id, partition, key, state)
  select $1, l.id, s.partition, l.key, 'replay'
  from hark.log l
  join hark.partitions s
    on s.consumer = $1 and s.partition = hark.partition_of(l.key, l.id, c.partitions)
  where l.id >= r.next_id and l.id <= through
    and l.channel = any (coalesce(r.channels, c.channels))
    and (c.filter is null or hark.matches(c.filter, l.key, l.payload, l.headers))
    and hark.is_consumed(l.id, l.xid,
      r.positions[1 + hark.partition_of(l.key, l.id, greatest(1, cardinality(r.positions)))], complete_through)
  on conflict do nothing;
  if looked < batch then
    delete from hark.replays x where x.number = r.number;
  else
    update hark.replays x set next_id = through + 1 where x.number = r.number;
  end if;
  update hark.consumers k set changes = k.changes + 1 where k.name = $1;
  perform hark.nudge($1);
  return looked;
end
$$;

revoke execute on all functions in schema hark from public;
`,
  },
  {
    version: 12,
    name: "partitions",
    sql: `-- Hark 012: changing the number of partitions; and reading on after a restore, as in 004.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (12, 'partitions');

-- Changes the number of a consumer's partitions. With one partition, or where all are at the same place, it is
-- done at once. Else the workers first give all of them back, then read each to one common snapshot; the
-- last of them to get there makes the change (hark.turn_partitions). No key is overtaken: what waits goes along.
create function hark.repartition(consumer text, partitions integer) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  c hark.consumers;
begin
  if partitions is null or partitions < 1 or partitions > 1024 then
    raise exception 'a consumer cannot have % partitions', coalesce(partitions::text, 'null')
      using errcode = 'HK006', hint = 'Give a number from 1 to 1024.';
  end if;
  select * into c from hark.consumers k where k.name = $1 for no key update;
  if not found then
    perform hark.raise_no_consumer($1);
  end if;
  if c.barrier is not null and c.next_partitions <> $2 then
    raise exception 'consumer "%" is changing to % partitions', $1, c.next_partitions
      using errcode = 'HK006', hint = 'Let its workers finish that first.';
  end if;
  update hark.consumers k set next_partitions = nullif($2, case when c.barrier is null then c.partitions end)
  where k.name = $1;
  perform hark.turn_partitions($1);
  perform hark.nudge($1);
  return case when exists (select from hark.consumers k where k.name = $1 and k.next_partitions is not null)
    then 'pending' else 'done' end;
end
$$;
comment on function hark.repartition(text, integer) is
  'Changes the number of a consumer''s partitions: "done", or "pending" until its workers have read to a common point.';

-- A snapshot in which this transaction, which has a number, counts as running: its own does not list it.
create function hark.without_own(s pg_snapshot) returns pg_snapshot
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select case when pg_current_xact_id() >= pg_snapshot_xmax(s) then s
    else format('%s:%s:%s', least(pg_snapshot_xmin(s), pg_current_xact_id()), pg_snapshot_xmax(s), (
      select string_agg(x.xid::text, ',' order by x.xid)
      from (select r.xid from pg_snapshot_xip(s) r (xid) union select pg_current_xact_id()) x
    ))::pg_snapshot end
$$;

-- Takes a change of partitions a step further where nobody who lives holds one.
create function hark.turn_partitions(consumer text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  c hark.consumers;
  places bigint;
  here hark.position;
  one hark.position;
  total bigint;
  highest bigint;
begin
  -- Not waited for: whoever has it does this.
  select * into c from hark.consumers k where k.name = $1 and k.next_partitions is not null for no key update skip locked;
  if not found then
    return;
  end if;
  perform from hark.partitions s where s.consumer = $1 order by s.partition for update;
  if exists (
    select from hark.partitions s join hark.workers w on w.consumer = s.consumer and w.owner = s.owner
    where s.consumer = $1 and w.lease_until > clock_timestamp()
  ) then
    return;
  end if;
  -- But for the incarnation, which says only who stored it.
  select count(distinct regexp_replace(s.position::text, ',[^,]*\\)$', '')) into places
  from hark.partitions s where s.consumer = $1;
  if places > 1 then
    if c.barrier is null then
      -- From here on nobody's window reaches beyond the barrier: old owners are fenced off, and what is stored was
      -- opened before this statement's snapshot. What this transaction publishes is yet to come.
      update hark.partitions s set epoch = s.epoch + 1, owner = null where s.consumer = $1;
      update hark.consumers k
      set barrier = hark.without_own(pg_current_snapshot()), barrier_max = hark.drawn() where k.name = $1;
      return;
    end if;
    if exists (
      select from hark.partitions s where s.consumer = $1
        and ((s.position).target is not null or (s.position).seen::text <> c.barrier::text)
    ) then
      return;
    end if;
  end if;
  for one in select (s.position).* from hark.partitions s where s.consumer = $1 loop
    one.incarnation := null; -- what is stored has survived any crash
    here := case when here.seen is null or places = 1 then one else hark.merged(here, one) end;
  end loop;
  select sum(s.handled), max(s.epoch) into total, highest from hark.partitions s where s.consumer = $1;
  delete from hark.partitions s where s.consumer = $1;
  insert into hark.partitions (consumer, partition, "position", epoch, handled, served_at)
  select $1, n, here, highest + 1, case when n = 0 then total else 0 end, clock_timestamp()
  from generate_series(0, c.next_partitions - 1) n;
  update hark.waiting w set partition = hark.partition_of(w.key, w.id, c.next_partitions) where w.consumer = $1;
  update hark.done d set partition = hark.partition_of(l.key, l.id, c.next_partitions)
  from hark.log l where d.consumer = $1 and l.id = d.id;
  update hark.consumers k
  set partitions = c.next_partitions, next_partitions = null, barrier = null, barrier_max = null
  where k.name = $1;
  perform hark.nudge($1);
end
$$;

-- As in 004, for leases that belong to workers now.
create or replace function hark.rebase() returns boolean
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
  -- A common snapshot to read to means nothing here either: a change of partitions begins again.
  update hark.consumers c set barrier = null, barrier_max = null;
  delete from hark.workers;
  update hark.partitions p set
    "position" = row('1:1:'::pg_snapshot, through,
      least((p.position).floor, (select min(t.low) from unnest((p.position).lows) t (low))),
      '{}'::xid8[], '{}'::bigint[], null, null, null, null)::hark.position,
    epoch = p.epoch + 1, owner = null;
  return true;
end
$$;

revoke execute on all functions in schema hark from public;
`,
  },
  {
    version: 13,
    name: "later",
    sql: `-- Hark 013: notifications for later, and publishing once.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (13, 'later');

-- Notifications that wait for their time. They are not in the log: an id drawn now would lie below every
-- reader's floor by the time it is due, and be lost (002). The id is drawn by hark.deliver_due.
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

-- Publishes later: in this transaction it stores the notification to be delivered at a time, by the server's
-- clock, and returns the number it waits under, which is no id of the log. A time that has passed is due at once.
create function hark.notify_at(
  channel text, payload jsonb default '{}', key text default null, headers jsonb default null,
  deliver_at timestamptz default null
) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  made bigint;
begin
  if $5 is null or not isfinite($5) then
    raise exception 'a notification cannot be delivered at %', coalesce($5::text, 'null')
      using errcode = 'HK006', hint = 'Give a time, or publish it at once with hark.notify.';
  end if;
  if $5 > clock_timestamp() + interval '3653 days' then
    raise exception 'deliver_at is %, which is more than 10 years ahead', $5
      using errcode = 'HK006', hint = 'Give a time within 10 years.';
  end if;
  insert into hark.delayed (channel, key, payload, headers, deliver_at)
  values ($1, $3, coalesce($2, 'null'), $4, $5)
  returning number into made;
  perform hark.nudge('');
  return made;
end
$$;
comment on function hark.notify_at(text, jsonb, text, jsonb, timestamptz) is
  'Stores a notification to be delivered at a time; returns the number it waits under, for hark.cancel_delayed.';

-- Takes back what hark.notify_at stored; false where it has been delivered or taken back. While somebody is
-- delivering it, this waits. Its dedupe key is free again.
create function hark.cancel_delayed(number bigint) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  delete from hark.delayed d where d.number = $1;
  if not found then
    return false;
  end if;
  delete from hark.dedupe k where k.delayed = $1;
  return true;
end
$$;
comment on function hark.cancel_delayed(bigint) is
  'Takes back a delayed notification by the number it waits under; false where it is not waiting any more.';

-- Moves what is due into the log, by deliver_at, then number, and says in how many ms the next is due: null where
-- nothing waits, 0 or less where more is due now. Those that are being cancelled or delivered by somebody else are
-- passed over; next_ms then says when to look again. Where nothing is due it writes nothing.
--
-- Workers and subscriptions call it, in a transaction of its own: one that stays open holds back what others
-- would deliver.
create function hark.deliver_due(batch integer default 1000)
returns table (moved integer, next_ms double precision)
language plpgsql volatile security definer rows 1 set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $$
declare
  until_then timestamptz := clock_timestamp();
  in_other_hands constant double precision := 250;
  next_at timestamptz;
  held boolean := false;
  writer xid8;
  numbers bigint[];
  ids bigint[];
  channels text[];
begin
  if batch is null or batch < 1 then
    raise exception 'a batch of % cannot be delivered', coalesce(batch::text, 'null')
      using errcode = 'HK006', hint = 'Give how many notifications to move at most, at least 1.';
  end if;
  moved := 0;
  select d.deliver_at into next_at from hark.delayed d order by d.deliver_at, d.number limit 1;
  if next_at <= until_then then
    -- One at a time: two that skip each other's rows would give a later notification of a key the lower id. The
    -- lock is freed after the commit is visible, so who gets it next sees what was moved.
    if pg_try_advisory_xact_lock(hashtextextended('hark.deliver_due', 5237)) then
      -- A statement of its own, before ids are drawn (001).
      writer := pg_current_xact_id();
      with due as materialized (
        select d.number from hark.delayed d
        where d.deliver_at <= until_then
        order by d.deliver_at, d.number
        limit batch
        for update skip locked
      ),
      gone as materialized (
        delete from hark.delayed d using due u where d.number = u.number
        returning d.number, d.channel, d.key, d.payload, d.headers, d.deliver_at
      ),
      published as (
        -- The clock of now: ids and times run side by side in the log (hark.clean).
        insert into hark.log (xid, channel, key, payload, headers, created_at)
        select writer, g.channel, g.key, g.payload, g.headers, clock_timestamp()
        from gone g order by g.deliver_at, g.number
        returning log.id, log.channel
      )
      select count(*), array_agg(p.id order by p.id), array_agg(distinct p.channel),
        (select array_agg(g.number order by g.deliver_at, g.number) from gone g)
      into moved, ids, channels, numbers
      from published p;
      -- Who holds one of these rows has found it expired: nobody will be told of its id.
      with known as (
        select k.channel, k.dedupe_key, m.id
        from unnest(numbers, ids) m (number, id) join hark.dedupe k on k.delayed = m.number
        for update of k skip locked
      )
      update hark.dedupe k set id = n.id, delayed = null
      from known n where k.channel = n.channel and k.dedupe_key = n.dedupe_key;
      if coalesce(current_setting('hark.wake', true), '') <> 'off' and pg_notification_queue_usage() < 0.5 then
        perform pg_notify('hark', c.channel) from unnest(channels) c (channel);
      end if;
    end if;
    if moved = batch then
      select d.deliver_at into next_at from hark.delayed d order by d.deliver_at, d.number limit 1;
    else
      held := exists (select from hark.delayed d where d.deliver_at <= until_then);
      select d.deliver_at into next_at from hark.delayed d
      where d.deliver_at > until_then order by d.deliver_at, d.number limit 1;
    end if;
  end if;
  next_ms := least(
    extract(epoch from next_at - clock_timestamp())::double precision * 1000,
    case when held then in_other_hands end
  );
  return next;
end
$$;
comment on function hark.deliver_due(integer) is
  'Moves delayed notifications that are due into the log; says in how many ms the next is.';

-- Takes a dedupe key for a time; where somebody has it, says what was published under it. An open transaction
-- that took the same key is waited for. Where this one's snapshot is older than that (REPEATABLE READ and above),
-- PostgreSQL raises 40001 and the transaction is to be tried again.
create function hark.take_dedupe(
  channel text, dedupe_key text, within interval,
  out taken boolean, out id bigint, out delayed bigint
)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  known hark.dedupe;
begin
  if $2 is null or char_length($2) not between 1 and 200 then
    raise exception 'dedupe_key %', coalesce('has ' || char_length($2) || ' characters', 'is null')
      using errcode = 'HK006', hint = 'Give 1 to 200 characters.';
  end if;
  if $3 is null or $3 <= interval '0' or $3 > interval '3653 days' then
    raise exception 'within is %', coalesce($3::text, 'null')
      using errcode = 'HK006', hint = 'Give an interval above 0, of at most 10 years.';
  end if;
  taken := true;
  loop
    -- Read before anything is locked: a duplicate makes nobody wait.
    select k.* into known from hark.dedupe k where k.channel = $1 and k.dedupe_key = $2;
    if not found then
      insert into hark.dedupe (channel, dedupe_key, expires_at) values ($1, $2, clock_timestamp() + $3)
      on conflict on constraint dedupe_pkey do nothing;
    elsif known.id is null and known.delayed is null then
      return;  -- taken by hark.notify_each for one of its notifications
    elsif known.expires_at > clock_timestamp() then
      taken := false; id := known.id; delayed := known.delayed;
      return;
    else
      update hark.dedupe k set id = null, delayed = null, expires_at = clock_timestamp() + $3
      where k.channel = $1 and k.dedupe_key = $2 and k.expires_at <= clock_timestamp();
    end if;
    if found then
      return;
    end if;
  end loop;
end
$$;

-- Publishes under a key of the producer's own: the first publishes; within that time, counted from its call, the
-- next ones publish nothing and are given what the first was given. A key belongs to its channel. The row is what
-- the first transaction leaves: another one under the same key waits for it, and publishes where it rolls back.
--   id            of the log, or where is_delayed the number it waits under
create function hark.notify_once(
  channel text, payload jsonb default '{}', key text default null, headers jsonb default null,
  dedupe_key text default null, within interval default '1 day', deliver_at timestamptz default null
) returns table (id bigint, is_delayed boolean, is_duplicate boolean)
language plpgsql volatile security definer rows 1 set search_path = pg_catalog, pg_temp
as $$
declare
  first record;
begin
  select t.* into first from hark.take_dedupe($1, $5, $6) t;
  is_duplicate := not first.taken;
  is_delayed := case when is_duplicate then first.id is null else $7 is not null end;
  if is_duplicate then
    id := coalesce(first.id, first.delayed);
  elsif is_delayed then
    id := hark.notify_at($1, $2, $3, $4, $7);
    update hark.dedupe k set delayed = notify_once.id where k.channel = $1 and k.dedupe_key = $5;
  else
    id := hark.notify($1, $2, $3, $4);
    update hark.dedupe k set id = notify_once.id where k.channel = $1 and k.dedupe_key = $5;
  end if;
  return next;
end
$$;
comment on function hark.notify_once(text, jsonb, text, jsonb, text, interval, timestamptz) is
  'Publishes unless that was done under the same dedupe_key of this channel within a time.';

-- hark.notify_many for notifications some of which are for later or have a dedupe key, all or none: an array of
-- {channel, payload, key, headers, delay_ms, deliver_at, dedupe_key, within_ms}; a row for each, in their order.
create function hark.notify_each(notifications json)
returns table (id bigint, is_delayed boolean, is_duplicate boolean)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  n record;
begin
  -- First all keys, in one order for everybody: two calls that share keys wait for each other, and do not deadlock.
  for n in
    select distinct on (k.channel collate "C", k.dedupe_key collate "C") k.*
    from rows from (
      json_to_recordset($1) as (channel text, dedupe_key text, within_ms double precision)
    ) with ordinality as k (channel, dedupe_key, within_ms, place)
    where k.dedupe_key is not null
    order by k.channel collate "C", k.dedupe_key collate "C", k.place
  loop
    perform hark.take_dedupe(n.channel, n.dedupe_key, hark.as_interval('within', coalesce(n.within_ms, 86400000)));
  end loop;
  for n in
    select k.*
    from rows from (
      json_to_recordset($1) as (
        channel text, payload jsonb, key text, headers jsonb, delay_ms double precision, deliver_at timestamptz,
        dedupe_key text, within_ms double precision
      )
    ) with ordinality as k (channel, payload, key, headers, delay_ms, deliver_at, dedupe_key, within_ms, place)
    order by k.place
  loop
    if n.delay_ms is not null then
      if n.deliver_at is not null then
        raise exception 'there is a delay of % ms and a deliver_at', n.delay_ms
          using errcode = 'HK006', hint = 'Give one of them.';
      end if;
      n.deliver_at := clock_timestamp() + hark.as_interval('delay', n.delay_ms);
    end if;
    if n.dedupe_key is not null then
      return query select o.* from hark.notify_once(n.channel, n.payload, n.key, n.headers, n.dedupe_key,
        hark.as_interval('within', coalesce(n.within_ms, 86400000)), n.deliver_at) o;
      continue;
    end if;
    is_duplicate := false;
    is_delayed := n.deliver_at is not null;
    id := case when is_delayed then hark.notify_at(n.channel, n.payload, n.key, n.headers, n.deliver_at)
      else hark.notify(n.channel, n.payload, n.key, n.headers) end;
    return next;
  end loop;
end
$$;
comment on function hark.notify_each(json) is
  'Publishes an array of {channel, payload, key, headers, delay_ms, deliver_at, dedupe_key, within_ms} in this transaction.';

create function hark.as_interval(what text, ms double precision) returns interval
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
  if not (ms >= 0 and ms <= 315619200000) then
    raise exception '% is % ms', what, ms
      using errcode = 'HK006', hint = 'Give milliseconds, at most 10 years of them.';
  end if;
  return make_interval(secs => ms / 1000);
end
$$;

-- Removes dedupe keys that have expired, at most so many, and returns their number. hark.clean calls it; publishing
-- does not, as a key removed by a transaction that stays open would hold up who publishes under it.
create function hark.forget_dedupe(batch integer default 10000) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off
as $$
declare
  forgotten bigint;
begin
  delete from hark.dedupe k
  using (
    select e.channel, e.dedupe_key from hark.dedupe e
    where e.expires_at <= clock_timestamp()
    order by e.expires_at
    limit batch
    for update skip locked
  ) e
  where k.channel = e.channel and k.dedupe_key = e.dedupe_key;
  get diagnostics forgotten = row_count;
  return forgotten;
end
$$;
comment on function hark.forget_dedupe(integer) is 'Removes dedupe keys that have expired.';

revoke execute on all functions in schema hark from public;
`,
  },
  {
    version: 14,
    name: "administer",
    sql: `-- Hark 014: administering consumers: moving them, delivering once more, pausing, dead letters, removing.
--
-- Locks are taken in this order: replays, the consumer's row, its partitions by number, what waits. Never a lock
-- FOR UPDATE on the consumer's row before its partitions: who acknowledges holds partitions, and refers to that
-- row by a foreign key.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (14, 'administer');

-- Tells the workers of a consumer to look at what this transaction changes for them, and locks its row.
create function hark.changed(consumer text) returns hark.consumers
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  c hark.consumers;
begin
  update hark.consumers k set changes = k.changes + 1 where k.name = $1 returning * into c;
  if not found then
    perform hark.raise_no_consumer($1);
  end if;
  perform hark.nudge($1);
  return c;
end
$$;

create function hark.require_consumer(consumer text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from hark.consumers c where c.name = $1) then
    perform hark.raise_no_consumer($1);
  end if;
end
$$;

-- Moves a consumer, all its partitions at once:
--   beginning     everything in the log is delivered, again or for the first time
--   now, end      only what is not committed yet
--   id            that id and above
--   time          at least all that was committed since (from the last waymark before it)
-- What waits to be tried again and would not come from there becomes a dead letter; their number is returned.
-- Whoever serves it is fenced off and claims it again. A transaction of its own that has written nothing.
create function hark.seek(
  consumer text, kind text, id bigint default null, "time" timestamptz default null
) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set jit = off
as $$
declare
  start hark.position;
  c hark.consumers;
  complete_through bigint;
  given_up bigint;
begin
  perform hark.require_consumer($1);
  if (kind in ('beginning', 'now', 'end') and (id is not null or "time" is not null))
    or (kind = 'id' and "time" is not null) or (kind = 'time' and id is not null)
  then
    raise exception 'a seek to "%" was given an id (%) or a time (%) that it does not take', kind, id, "time"
      using errcode = 'HK006', hint = 'Give "id" an id, "time" a time, and the others neither.';
  end if;
  perform hark.require_fresh_snapshot();
  -- Held against hark.clean, as in hark.register.
  lock table hark.consumers in row exclusive mode;
  start := hark.start_position(case kind when 'end' then 'now' else kind end, id, "time");
  delete from hark.replays r where r.consumer = $1;
  c := hark.changed($1);
  if c.next_partitions is not null then
    raise exception 'consumer "%" is changing to % partitions', $1, c.next_partitions
      using errcode = 'HK006', hint = 'Let its workers finish that first, or change it back.';
  end if;
  perform from hark.partitions s where s.consumer = $1 order by s.partition for update;
  select i.rebased_through into complete_through from hark.install i;
  insert into hark.dead (consumer, id, channel, key, payload, headers, created_at, attempts, error)
  select $1, w.id, coalesce(l.channel, w.channel), coalesce(l.key, w.key), coalesce(l.payload, w.payload),
    coalesce(l.headers, w.headers), coalesce(l.created_at, w.created_at), w.attempts, 'given up by a seek'
  from hark.waiting w
  left join hark.log l on l.id = w.id
  where w.consumer = $1 and (
    l.id is null
    or hark.is_consumed(l.id, l.xid, start, complete_through)
    -- What the consumer reads may have changed since this began to wait.
    or l.channel <> all (c.channels)
    or (c.filter is not null and not hark.matches(c.filter, l.key, l.payload, l.headers))
  )
  on conflict on constraint dead_pkey do update set
    attempts = excluded.attempts, error = excluded.error, died_at = clock_timestamp();
  get diagnostics given_up = row_count;
  delete from hark.waiting w where w.consumer = $1;
  delete from hark.done d where d.consumer = $1;
  update hark.partitions s set
    "position" = start, epoch = s.epoch + 1, owner = null, crashes = 0, trying_id = null, suspect_id = null, suspect_ends = 0
  where s.consumer = $1;
  return given_up;
end
$$;
comment on function hark.seek(text, text, bigint, timestamptz) is
  'Moves a consumer to "beginning", "now", an "id" or a "time"; returns how many waiting notifications it gave up.';

-- The first or last id that was published at a time or after it, or (where \`last\`) at it or before. Ids and
-- times run side by side but for moments and for changes of the clock; waymarks say where to look.
create function hark.id_at("time" timestamptz, last boolean) returns bigint
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
as $$
declare
  around bigint;
  found_id bigint;
begin
  if not last then
    select coalesce(max(w.seen_max), 0) into around from hark.waymarks w where w.taken_at < $1 - interval '1 minute';
    select l.id into found_id from hark.log l where l.id > around and l.created_at >= $1 order by l.id limit 1;
  else
    select coalesce(min(w.seen_max), 9223372036854775807) into around
    from hark.waymarks w where w.taken_at > $1 + interval '1 minute';
    select l.id into found_id from hark.log l where l.id <= around and l.created_at <= $1 order by l.id desc limit 1;
  end if;
  return found_id;
end
$$;

-- Has a consumer handle once more what it has passed already, from an id or a time through an id or a time, both
-- included (to the end of the log unless given), of all its channels or of some. What it has not passed comes
-- once, in its turn. Its workers see to it bit by bit; the replay's number is returned, null where nothing was
-- published in that time.
create function hark.replay(
  consumer text, from_id bigint default null, to_id bigint default null, channels text[] default null,
  from_time timestamptz default null, to_time timestamptz default null
) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  c hark.consumers;
  drawn bigint;
  first_id bigint := from_id;
  last_id bigint := to_id;
  strange text;
  made bigint;
begin
  perform hark.require_consumer($1);
  if num_nonnulls(from_id, from_time) <> 1 or num_nonnulls(to_id, to_time) > 1 then
    raise exception 'a replay begins at an id (%) or at a time (%), and ends at an id (%) or at a time (%)',
      from_id, from_time, to_id, to_time
      using errcode = 'HK006', hint = 'Give one beginning, and at most one end.';
  end if;
  drawn := hark.drawn();
  if from_id < 1 or from_id > drawn then
    raise exception 'a replay cannot begin at id %: the log has drawn ids from 1 to %', from_id, drawn
      using errcode = 'HK006', hint = 'Give an id of the log.';
  end if;
  if to_id < from_id or to_time < from_time or to_id < 1 then
    raise exception 'a replay cannot end (%) before it begins (%)',
      coalesce(to_id::text, to_time::text), coalesce(from_id::text, from_time::text)
      using errcode = 'HK006', hint = 'Give an end that is not before the beginning.';
  end if;
  if cardinality(channels) = 0 then
    raise exception 'a replay of no channel' using errcode = 'HK006', hint = 'Leave channels out to replay all.';
  end if;
  c := hark.changed($1);
  select coalesce(n.name, 'null') into strange from unnest(channels) n (name)
  where coalesce(n.name <> all (c.channels), true) limit 1;
  if found then
    raise exception 'consumer "%" does not read channel "%"', $1, strange
      using errcode = 'HK006', hint = 'Replay channels of the consumer: ' || array_to_string(c.channels, ', ') || '.';
  end if;
  if from_time is not null then
    first_id := hark.id_at(from_time, false);
  end if;
  if to_time is not null then
    last_id := hark.id_at(to_time, true);
  end if;
  if to_time is null then
    last_id := least(to_id, drawn);
  end if;
  if first_id is null or last_id is null or first_id > last_id then
    return null;
  end if;
  insert into hark.replays (consumer, channels, next_id, to_id, positions)
  values ($1, case when $4 is not null then hark.as_set($4) end, first_id, last_id,
    array(select s.position from hark.partitions s where s.consumer = $1 order by s.partition))
  returning number into made;
  return made;
end
$$;
comment on function hark.replay(text, bigint, bigint, text[], timestamptz, timestamptz) is
  'Has a consumer handle a range of ids, or of times, once more; returns the replay''s number.';

-- Has the workers of a consumer begin nothing new; what they are at they finish. Returns whether that is news.
create function hark.pause(consumer text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform hark.require_consumer($1);
  update hark.consumers c set paused_at = clock_timestamp(), changes = c.changes + 1
  where c.name = $1 and c.paused_at is null;
  if found then
    perform hark.nudge($1);
    return true;
  end if;
  return false;
end
$$;
comment on function hark.pause(text) is 'Stops delivery to a consumer, wherever it runs, until hark.resume.';

create function hark.resume(consumer text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform hark.require_consumer($1);
  update hark.consumers c set paused_at = null, changes = c.changes + 1
  where c.name = $1 and c.paused_at is not null;
  if found then
    perform hark.nudge($1);
    return true;
  end if;
  return false;
end
$$;
comment on function hark.resume(text) is 'Goes on with delivery to a consumer that was paused.';

create function hark.check_dead(consumer text, max_rows bigint, after_id bigint) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if $1 is not null then
    perform hark.require_consumer($1);
  elsif after_id is not null then
    raise exception 'dead letters of all consumers are not in order of ids, so none come after id %', after_id
      using errcode = 'HK006', hint = 'Name the consumer.';
  end if;
  if max_rows < 1 then
    raise exception 'at most % dead letters are none', max_rows
      using errcode = 'HK006', hint = 'Give a limit of at least 1.';
  end if;
end
$$;

-- Dead letters that fit: \`error\` is a part of the error's text, an empty \`ids\` fits none.
create function hark.dead_matching(
  consumer text, ids bigint[], channel text, key text, error text, from_id bigint, to_id bigint,
  died_after timestamptz, died_before timestamptz, max_rows bigint, after_id bigint
) returns table (whose text, its_id bigint)
language sql volatile security definer rows 100 set search_path = pg_catalog, pg_temp
as $$
  select d.consumer, d.id from hark.dead d
  where ($1 is null or d.consumer = $1) and ($2 is null or d.id = any ($2))
    and ($3 is null or d.channel = $3) and ($4 is null or d.key = $4)
    and ($5 is null or strpos(coalesce(d.error, ''), $5) > 0)
    and ($6 is null or d.id >= $6) and ($7 is null or d.id <= $7)
    and ($8 is null or d.died_at >= $8) and ($9 is null or d.died_at < $9)
    and ($11 is null or d.id > $11)
  order by d.consumer, d.id
  limit $10
$$;

-- Notifications given up, of one consumer or of all, by consumer and id. A payload that cannot be read as text
-- is null. Go on after the last one by after_id.
create function hark.dead_letters(
  consumer text default null, channel text default null, key text default null, error text default null,
  from_id bigint default null, to_id bigint default null, died_after timestamptz default null,
  died_before timestamptz default null, max_rows bigint default 100, after_id bigint default null,
  ids bigint[] default null
) returns setof hark.dead
language plpgsql volatile security definer rows 100 set search_path = pg_catalog, pg_temp
as $$
begin
  perform hark.check_dead($1, $9, $10);
  return query
  select d.consumer, d.id, d.channel, d.key,
    case when pg_column_size(d.payload) <= 100000 or hark.readable_size(d.payload) is not null then d.payload end,
    d.headers, d.created_at, d.attempts, d.error, d.died_at
  from hark.dead_matching($1, $11, $2, $3, $4, $5, $6, $7, $8, $9, $10) m
  join hark.dead d on d.consumer = m.whose and d.id = m.its_id
  order by d.consumer, d.id;
end
$$;
comment on function hark.dead_letters is 'Lists notifications that consumers have given up, with their last errors.';

-- Has dead letters handled again, from their first attempt on: all of a consumer's unless told which. Returns how
-- many. One of which nothing is left but its id stays.
create function hark.retry_dead(
  consumer text, ids bigint[] default null, channel text default null, key text default null,
  error text default null, from_id bigint default null, to_id bigint default null,
  died_after timestamptz default null, died_before timestamptz default null, max_rows bigint default null
) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  c hark.consumers;
  moved bigint;
begin
  perform hark.check_dead($1, $10, null);
  c := hark.changed($1);
  with gone as (
    delete from hark.dead d
    using hark.dead_matching($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, null) m
    where d.consumer = m.whose and d.id = m.its_id
      and (d.channel is not null or exists (select from hark.log l where l.id = d.id))
    returning d.*
  ),
  again as (
    insert into hark.waiting (consumer, id, partition, key, state, last_error, failed_at,
      channel, payload, headers, created_at)
    select $1, g.id, hark.partition_of(n.key, g.id, c.partitions), n.key, 'retry', g.error, g.died_at,
      n.channel, n.payload, n.headers, n.created_at
    from gone g
    cross join lateral (
      select g.channel, g.key, g.payload, g.headers, g.created_at where g.channel is not null
      union all
      select l.channel, l.key, l.payload, l.headers, l.created_at from hark.log l
      where l.id = g.id and g.channel is null
    ) n
    -- It waits already, to be replayed.
    on conflict do nothing
  )
  select count(*) into moved from gone;
  return moved;
end
$$;
comment on function hark.retry_dead is 'Has a consumer handle its dead letters again; returns how many.';

-- Removes dead letters for good: all of a consumer's unless told which. Returns how many.
create function hark.discard_dead(
  consumer text, ids bigint[] default null, channel text default null, key text default null,
  error text default null, from_id bigint default null, to_id bigint default null,
  died_after timestamptz default null, died_before timestamptz default null, max_rows bigint default null
) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  removed bigint;
begin
  perform hark.check_dead($1, $10, null);
  delete from hark.dead d
  using hark.dead_matching($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, null) m
  where d.consumer = m.whose and d.id = m.its_id;
  get diagnostics removed = row_count;
  return removed;
end
$$;
comment on function hark.discard_dead is 'Removes dead letters of a consumer for good; returns how many.';

-- As in 005, without a deadlock with workers that acknowledge.
create or replace function hark.remove_consumer(consumer text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform from hark.replays r where r.consumer = $1 for update;
  perform from hark.consumers c where c.name = $1 for no key update;
  perform from hark.partitions s where s.consumer = $1 order by s.partition for update;
  delete from hark.consumers c where c.name = $1;
  if found then
    perform hark.nudge($1);
    return true;
  end if;
  return false;
end
$$;
comment on function hark.remove_consumer(text) is
  'Removes a consumer, its position and its dead letters; what it had not read counts as read.';

revoke execute on all functions in schema hark from public;
`,
  },
  {
    version: 15,
    name: "oversight",
    sql: `-- Hark 015: how far everybody is, who holds back cleaning, cleaning, and who may do what.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (15, 'oversight');

-- hark.is_consumed for many rows: no SET clause, so that it becomes part of the query that calls it (ten times as
-- fast), and of a position only what it looks at.
create function hark.passed(
  id bigint, xid xid8, seen_nothing boolean, floor bigint, seen pg_snapshot, target pg_snapshot, last_id bigint,
  complete_through bigint
) returns boolean
language sql immutable
as $$
  select $3 and $1 operator(pg_catalog.<=) $4
    or not $3 and $1 operator(pg_catalog.<=) $8
    or pg_catalog.pg_visible_in_snapshot($2, $5)
    or $6 is not null and $1 operator(pg_catalog.<=) $7
      and ($1 operator(pg_catalog.<=) $8 or pg_catalog.pg_visible_in_snapshot($2, $6))
$$;

-- What a consumer has still to read, by partition and time, up to so many: committed, of its channels and filter,
-- and not passed by the position of its partition.
create function hark.unread_of(consumer text, max_count bigint) returns table (partition integer, published timestamptz)
language sql volatile security definer set search_path = pg_catalog, pg_temp
-- A range of the primary key, row by row, whatever the statistics say; partitions are few.
set enable_seqscan = off set enable_bitmapscan = off set enable_nestloop = off set enable_mergejoin = off set jit = off
as $$
  with place as materialized (
    select p.partition, (p.position).seen::text = '1:1:' as seen_nothing, (p.position).floor, (p.position).seen,
      (p.position).target, (p.position).last_id,
      least((p.position).floor, (select min(t.low) from unnest((p.position).lows) t (low))) as after_id
    from hark.partitions p where p.consumer = $1
  )
  select p.partition, l.created_at
  from hark.consumers c
  cross join hark.install i
  join hark.log l on l.id > (select min(f.after_id) from place f)
  join place p on p.partition = hark.partition_of(l.key, l.id, c.partitions)
  where c.name = $1 and l.channel = any (c.channels)
    and not hark.passed(l.id, l.xid, p.seen_nothing, p.floor, p.seen, p.target, p.last_id, i.rebased_through)
    and (c.filter is null or hark.matches(c.filter, l.key, l.payload, l.headers))
  limit $2
$$;

-- How far each consumer is. Counting stops at max_count, as nobody needs the exact size of a large backlog. What
-- waits to be tried again is not unread. \`blocked\` partitions have something that has failed and is to be tried
-- again; the oldest such is the one the consumer fails on. Workers are those whose lease runs.
drop function hark.status(bigint);
create function hark.status(max_count bigint default 100000) returns table (
  consumer text, channels text[], filter jsonb, transactional boolean, generation bigint,
  partitions integer, next_partitions integer, paused_at timestamptz, created_at timestamptz,
  unread bigint, oldest_unread timestamptz, lag_seconds double precision,
  waiting bigint, oldest_waiting timestamptz, blocked integer, dead bigint, replays integer,
  workers integer, served integer, owner uuid, lease_until timestamptz, served_at timestamptz,
  handled bigint, acknowledged_at timestamptz,
  failing_id bigint, attempts integer, last_error text, failed_at timestamptz
)
language sql volatile security definer set search_path = pg_catalog, pg_temp set jit = off
as $$
  select c.name, c.channels, c.filter, c.transactional, c.generation, c.partitions, c.next_partitions,
    c.paused_at, c.created_at, u.unread, u.oldest,
    coalesce(extract(epoch from greatest(clock_timestamp() - u.oldest, interval '0'))::double precision, 0),
    (select count(*) from (select from hark.waiting w where w.consumer = c.name limit max_count) w),
    (select coalesce(w.created_at, l.created_at) from hark.waiting w left join hark.log l on l.id = w.id
      where w.consumer = c.name order by w.id limit 1),
    (select count(distinct w.partition)::integer from hark.waiting w where w.consumer = c.name and w.attempts > 0),
    (select count(*) from (select from hark.dead d where d.consumer = c.name limit max_count) d),
    (select count(*)::integer from hark.replays r where r.consumer = c.name),
    (select count(*)::integer from hark.workers w where w.consumer = c.name and w.lease_until > clock_timestamp()),
    p.served, o.owner, o.lease_until, p.served_at, p.handled, p.acknowledged_at,
    f.id, coalesce(f.attempts, 0), f.last_error, f.failed_at
  from hark.consumers c
  cross join lateral (
    select count(*) as unread, min(x.published) as oldest from hark.unread_of(c.name, max_count) x
  ) u
  cross join lateral (
    select sum(s.handled)::bigint as handled, max(s.acknowledged_at) as acknowledged_at,
      max(s.served_at) as served_at,
      count(*) filter (where w.lease_until > clock_timestamp())::integer as served
    from hark.partitions s left join hark.workers w on w.consumer = s.consumer and w.owner = s.owner
    where s.consumer = c.name
  ) p
  left join lateral (
    select s.owner, w.lease_until
    from hark.partitions s left join hark.workers w on w.consumer = s.consumer and w.owner = s.owner
    where s.consumer = c.name and s.owner is not null
    order by w.lease_until desc nulls last, s.partition limit 1
  ) o on true
  left join lateral (
    select w.id, w.attempts, w.last_error, w.failed_at from hark.waiting w
    where w.consumer = c.name and w.attempts > 0 order by w.id limit 1
  ) f on true
  order by c.name
$$;
comment on function hark.status(bigint) is 'How far every consumer is, who serves it, and what it fails on.';

-- The partitions of one consumer; counting stops at max_count over all of them.
create function hark.partitions_of(consumer text, max_count bigint default 100000) returns table (
  partition integer, unread bigint, oldest_unread timestamptz, waiting bigint, blocked boolean, owner uuid,
  lease_until timestamptz, epoch bigint, handled bigint, acknowledged_at timestamptz, served_at timestamptz,
  crashes integer, trying_id bigint
)
language sql volatile security definer set search_path = pg_catalog, pg_temp set jit = off
as $$
  with unread as materialized (
    select u.partition, count(*) as count, min(u.published) as oldest from hark.unread_of($1, $2) u group by 1
  ),
  waiting as materialized (
    select w.partition, count(*) as count, bool_or(w.attempts > 0) as blocked
    from hark.waiting w where w.consumer = $1 group by 1
  )
  select s.partition, coalesce(u.count, 0), u.oldest, coalesce(w.count, 0), coalesce(w.blocked, false), s.owner,
    k.lease_until, s.epoch, s.handled, s.acknowledged_at, s.served_at, s.crashes, s.trying_id
  from hark.partitions s
  left join unread u on u.partition = s.partition
  left join waiting w on w.partition = s.partition
  left join hark.workers k on k.consumer = s.consumer and k.owner = s.owner
  where s.consumer = $1
  order by s.partition
$$;

-- The workers of one consumer, also those whose lease has ended lately, and what each holds.
create function hark.workers_of(consumer text) returns table (
  owner uuid, alive boolean, lease_until timestamptz, joined_at timestamptz, listening boolean, partitions integer[]
)
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  select w.owner,
    w.lease_until > clock_timestamp()
      and case when w.session is null then true else not pg_try_advisory_xact_lock_shared(w.session) end,
    w.lease_until, w.joined_at, w.session is not null,
    array(select s.partition from hark.partitions s where s.consumer = w.consumer and s.owner = w.owner order by 1)
  from hark.workers w
  where w.consumer = $1
  order by w.joined_at, w.owner
$$;

-- What one consumer has yet to try again, the oldest first; what only waits behind these is left out.
create function hark.heads_of(consumer text, max_rows integer default 20) returns table (
  id bigint, partition integer, key text, state text, attempts integer, due_at timestamptz, last_error text,
  failed_at timestamptz, channel text
)
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  select w.id, w.partition, w.key, w.state, w.attempts, w.due_at, w.last_error, w.failed_at,
    coalesce(w.channel, (select l.channel from hark.log l where l.id = w.id))
  from hark.waiting w
  where w.consumer = $1 and w.state <> 'behind'
  order by w.id
  limit $2
$$;

-- What one consumer has yet to handle once more, see hark.replay.
create function hark.replays_of(consumer text) returns table (
  number bigint, channels text[], next_id bigint, to_id bigint, created_at timestamptz
)
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  select r.number, r.channels, r.next_id, r.to_id, r.created_at
  from hark.replays r where r.consumer = $1 order by r.number
$$;

-- Because of whom hark.clean keeps notifications that were published before a time, and when the oldest of them
-- was. A position covers the whole log, so a consumer of one channel also holds what others publish on others
-- until it has looked at it.
create function hark.holding("before" timestamptz default 'infinity') returns table (
  consumer text, oldest timestamptz, behind boolean, waiting boolean, replaying boolean, workers integer,
  paused_at timestamptz
)
language sql volatile security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $$
  select c.name, least(p.oldest, w.oldest, r.oldest), p.oldest is not null, w.oldest is not null,
    r.oldest is not null,
    (select count(*)::integer from hark.workers k where k.consumer = c.name and k.lease_until > clock_timestamp()),
    c.paused_at
  from hark.consumers c
  cross join hark.install i
  -- Ids and times run side by side: where the first that it has not passed is not old, none is.
  cross join lateral (
    select min(x.created_at) filter (where x.created_at < $1) as oldest
    from (
      select distinct on (s.position::text) (s.position).seen::text = '1:1:' as seen_nothing, (s.position).floor,
        (s.position).seen, (s.position).target, (s.position).last_id,
        least((s.position).floor, (select min(t.low) from unnest((s.position).lows) t (low))) as after_id
      from hark.partitions s where s.consumer = c.name
    ) s
    cross join lateral (
      select l.created_at from hark.log l
      where l.id > s.after_id
        and not hark.passed(l.id, l.xid, s.seen_nothing, s.floor, s.seen, s.target, s.last_id, i.rebased_through)
      order by l.id limit 1
    ) x
  ) p
  cross join lateral (
    select min(x.created_at) filter (where x.created_at < $1) as oldest
    from (
      select l.created_at from hark.waiting h join hark.log l on l.id = h.id
      where h.consumer = c.name and h.channel is null order by h.id limit 1
    ) x
  ) w
  cross join lateral (
    select min(x.created_at) filter (where x.created_at < $1) as oldest
    from hark.replays y
    cross join lateral (
      select l.created_at from hark.log l where l.id >= y.next_id and l.id <= y.to_id order by l.id limit 1
    ) x
    where y.consumer = c.name
  ) r
  where least(p.oldest, w.oldest, r.oldest) is not null
  order by 2, 1
$$;
comment on function hark.holding(timestamptz) is 'The consumers because of whom old notifications are kept.';

-- When a worker served a consumer last; where none ever did, when it was registered. In the future while one has it.
create function hark.last_served(consumer text) returns timestamptz
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  select greatest(c.created_at,
    (select max(greatest(s.served_at, s.acknowledged_at)) from hark.partitions s where s.consumer = c.name),
    (select max(w.lease_until) from hark.workers w where w.consumer = c.name))
  from hark.consumers c where c.name = $1
$$;

-- Removes the consumers that no worker has served since a time; with dry_run it only names them.
create function hark.drop_inactive(since timestamptz, dry_run boolean default false)
returns table (consumer text, served_last timestamptz)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if since is null or since > clock_timestamp() then
    raise exception 'it cannot be known who is served since %', since
      using errcode = 'HK006', hint = 'Give a time in the past.';
  end if;
  for consumer, served_last in
    select c.name, hark.last_served(c.name) from hark.consumers c
    where hark.last_served(c.name) < since order by c.name
  loop
    if not dry_run then
      perform from hark.replays r where r.consumer = drop_inactive.consumer for update;
      perform from hark.consumers c where c.name = drop_inactive.consumer for no key update;
      perform from hark.partitions s where s.consumer = drop_inactive.consumer order by s.partition for update;
      -- A worker that joins refers to this row: now either none does, or it is seen.
      perform from hark.consumers c where c.name = drop_inactive.consumer for update;
      continue when coalesce(hark.last_served(consumer) >= since, true);
      perform hark.remove_consumer(consumer);
    end if;
    return next;
  end loop;
end
$$;
comment on function hark.drop_inactive(timestamptz, boolean) is
  'Removes the consumers that no worker has served since a time, and names them.';

-- As in 005, and keeps what waits in hark.waiting without a copy and what is to be replayed, also where \`forced\`:
-- who is to handle it would not find it. A dry run counts as if the consumers in \`without\` were gone.
drop function hark.clean(timestamptz, bigint, integer, boolean, boolean);
create function hark.clean(
  cutoff timestamptz, after_id bigint default 0, batch integer default 10000,
  forced boolean default false, dry_run boolean default false, without text[] default '{}'
) returns table (next_id bigint, removed bigint, kept bigint, bytes bigint, last_created_at timestamptz)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set jit = off
as $$
declare
  through bigint;
  floor_of_all bigint;
  complete_through bigint;
  looked bigint;
begin
  if batch is null or batch < 1 then
    raise exception 'a batch of % cannot be cleaned', batch
      using errcode = 'HK006', hint = 'Give how many notifications to look at, at least 1.';
  end if;
  if cardinality(without) > 0 and not dry_run then
    raise exception 'consumers % cannot be left out of account', without
      using errcode = 'HK006', hint = 'Only a dry run can; remove them instead.';
  end if;
  -- On a server this was restored to, what nobody has read would look read.
  perform hark.rebase();
  -- Waits for registrations, seeks and replays under way, and holds new ones back for this batch: see
  -- hark.register. Without it a position could go back behind what is being removed.
  lock table hark.consumers in share row exclusive mode;
  if not dry_run then
    -- Workers that ended without a word; the last of a consumer tells hark.drop_inactive since when.
    delete from hark.workers w
    using (
      select k.consumer, k.owner from hark.workers k
      where k.lease_until < clock_timestamp() - interval '1 hour' and exists (
        select from hark.workers n
        where n.consumer = k.consumer and (n.lease_until, n.owner) > (k.lease_until, k.owner)
      )
      for update of k skip locked
    ) gone
    where w.consumer = gone.consumer and w.owner = gone.owner;
    if to_regprocedure('hark.forget_dedupe(integer)') is not null then
      execute 'select hark.forget_dedupe($1)' using batch;
    end if;
  end if;
  -- Nobody's window can hold a row at or below the lowest floor and low; those above are checked one by one.
  select min(least((p.position).floor, (select min(t.low) from unnest((p.position).lows) t (low))))
  into floor_of_all from hark.partitions p where p.consumer <> all (without);
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
  with place as materialized (
    select distinct on (p.position::text) (p.position).seen::text = '1:1:' as seen_nothing, (p.position).floor,
      (p.position).seen, (p.position).target, (p.position).last_id
    from hark.partitions p where p.consumer <> all (without)
  ),
  old as materialized (
    select l.id from hark.log l
    where l.id > after_id and l.id <= through and l.created_at < cutoff
      and (forced or floor_of_all is null or l.id <= floor_of_all
        or not exists (select from place p
          where not hark.passed(l.id, l.xid, p.seen_nothing, p.floor, p.seen, p.target, p.last_id, complete_through)))
      and not exists (select from hark.waiting w
        where w.id = l.id and w.channel is null and w.consumer <> all (without))
      and not exists (select from hark.replays r
        where l.id >= r.next_id and l.id <= r.to_id and r.consumer <> all (without))
  ),
  gone as (
    delete from hark.log l using old o where l.id = o.id and not dry_run
    returning hark.stored_bytes(l.channel, l.key, l.payload, l.headers) as size
  )
  select count(*), coalesce(sum(g.size), 0) into removed, bytes
  from (
    select g.size from gone g
    union all
    select hark.stored_bytes(l.channel, l.key, l.payload, l.headers)
    from old o join hark.log l on l.id = o.id where dry_run
  ) g;
  if not dry_run then
    -- Waymarks below what is gone lead nowhere; the newest and the first stay.
    delete from hark.waymarks w
    where w.number > 0 and w.seen_max <= through and w.number < (select max(n.number) - 10 from hark.waymarks n);
  end if;
  kept := kept - removed;
  return next;
end
$$;

create or replace function hark.grant_publish(role_name text) returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select hark.grant_functions(role_name, array[
    'version', 'notify', 'smart_notify', 'notify_many', 'notify_at', 'cancel_delayed', 'notify_once', 'notify_each'
  ])
$$;

create or replace function hark.grant_consume(role_name text) returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select hark.grant_functions(role_name, array[
    'version', 'rebase', 'waymark', 'timeline', 'start_position', 'window_open', 'window_read', 'window_advance',
    'channels_of', 'register', 'attend', 'claim', 'lost_owners', 'window', 'merged', 'is_behind', 'pass',
    'acknowledge', 'begin_handling', 'owner_key', 'finish', 'trying', 'release', 'leave', 'waiting_of',
    'waiting_rows', 'done_of', 'feed', 'deliver_due', 'nudge', 'status', 'partitions_of',
    'workers_of', 'heads_of', 'replays_of', 'holding'
  ])
$$;

create function hark.grant_operate(role_name text) returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select hark.grant_functions(role_name, array[
    'version', 'rebase', 'status', 'partitions_of', 'workers_of', 'heads_of', 'replays_of', 'holding', 'seek',
    'replay', 'pause', 'resume', 'dead_letters', 'retry_dead', 'discard_dead', 'repartition', 'remove_consumer',
    'drop_inactive', 'clean'
  ])
$$;
comment on function hark.grant_operate(text) is
  'Lets a role look at every consumer, move, pause and remove it, handle dead letters, and clean. Run it as the owner of the schema.';

revoke execute on all functions in schema hark from public;

-- Who had rights before has those that their programs need now.
select hark.grant_publish(r.rolname)
from pg_proc p cross join lateral aclexplode(p.proacl) a join pg_roles r on r.oid = a.grantee
where p.oid = 'hark.notify(text, jsonb, text, jsonb)'::regprocedure and a.grantee <> p.proowner;
select hark.grant_consume(r.rolname)
from pg_proc p cross join lateral aclexplode(p.proacl) a join pg_roles r on r.oid = a.grantee
where p.oid = 'hark.waymark(bigint, interval)'::regprocedure and a.grantee <> p.proowner;
`,
  },
];
