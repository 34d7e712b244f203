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
  {
    version: 16,
    name: "changes",
    sql: `-- Hark 016: changes of tables, the ground: publishing from a trigger, context, and how a row becomes JSON.
--
-- A watched table has triggers whose function belongs to the table's owner and is generated from the table's
-- columns (017). What a user supplies (types and their casts, conditions, columns) runs with that owner's rights,
-- never with Hark's. Only this is called with Hark's: an insert into hark.published, and hark.wake.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (16, 'changes');

-- Many notifications by one statement, for generated triggers. The columns that order reading (xid, id) are not
-- in it, so nobody can forge them: they are the log's own defaults, in the log's order (001).
create view hark.published as select l.channel, l.key, l.payload, l.headers from hark.log l;
comment on view hark.published is 'For triggers of watched tables: insert only. Publish with hark.notify.';

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

-- Wakes who waits for a channel on which this transaction has published by hark.published. Called in a statement
-- after the insert: the transaction has its number then.
create function hark.wake(channel text) returns void
language plpgsql volatile security definer
as $$
begin
  if coalesce(pg_catalog.current_setting('hark.wake', true), '') operator(pg_catalog.<>) 'off'
    and pg_catalog.pg_notification_queue_usage() operator(pg_catalog.<) 0.5
  then
    perform pg_catalog.pg_notify('hark', $1);
  end if;
end
$$;

-- What is to travel with the notifications of this transaction, or of this session: who, for whom, in which trace.
-- It becomes part of their headers. A role that may not call this can SET LOCAL hark.context to the text of an object.
create function hark.set_context(context jsonb, for_session boolean default false) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  if context is not null and jsonb_typeof(context) <> 'object' then
    raise exception 'the context is %, which is not an object', left(context::text, 80)
      using errcode = 'HK006', hint = 'Give an object, such as {"tenant": 7}, or null to remove it.';
  end if;
  perform set_config('hark.context', coalesce(context::text, ''), not coalesce(for_session, false));
end
$$;
comment on function hark.set_context(jsonb, boolean) is
  'Facts that travel as headers with what triggers publish: of this transaction, or with for_session of this session.';

-- The context, over the headers given. Somebody may have set the parameter by hand, to anything: no write fails for
-- that, it is left out with a warning.
create function hark.with_context(headers jsonb) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  given text := current_setting('hark.context', true);
  context jsonb;
begin
  if coalesce(given, '') = '' then
    return headers;
  end if;
  begin
    context := given::jsonb;
  exception when data_exception or program_limit_exceeded or statement_too_complex then
    context := null;
  end;
  if context is null or jsonb_typeof(context) <> 'object' then
    raise warning 'hark.context is no JSON object and is left out: %', left(given, 80)
      using hint = 'Set it with hark.set_context.';
    return headers;
  end if;
  return coalesce(headers, '{}') || context;
end
$$;

create function hark.json_tried(value text) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return value::jsonb;
exception when data_exception or program_limit_exceeded or feature_not_supported then
  return to_jsonb(value);
end
$$;

-- A value of type json, as jsonb where that can hold it, else its text as a string: NUL and lone surrogates, numbers
-- beyond numeric, and what is nested deeper than the server's stack are refused by jsonb. Most values are told by
-- looking, as trying costs a subtransaction.
create function hark.json_value(value json) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case
    when value is null then null
    when octet_length(value::text) > 16777216
      or strpos(value::text, '\\u') > 0
        and (getdatabaseencoding() <> 'UTF8' or value::text ~* '\\\\u(0000|d[89a-f])')
      or value::text ~ '[0-9][eE][+-]?[0-9]{3,}' or value::text ~ '[0-9]{255}'
      or length(value::text) - length(translate(value::text, '[{', '')) > 1000
    then hark.json_tried(value::text)
    else value::text::jsonb
  end
$$;

-- The type beneath a domain.
create function hark.base_type(type oid) returns oid
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  t record;
begin
  loop
    select p.typtype, p.typbasetype into t from pg_type p where p.oid = type;
    exit when not found or t.typtype <> 'd';
    type := t.typbasetype;
  end loop;
  return type;
end
$$;

-- Whether to_jsonb can be given values of a type: it then calls nothing of a user's, and cannot fail. For types that
-- are not PostgreSQL's own it looks for a cast to json, which may be anybody's function.
create function hark.is_plain(type oid) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  base oid := hark.base_type(type);
  element oid;
  composite oid;
begin
  select e.oid into element from pg_type t join pg_type e on e.oid = t.typelem and e.typarray = t.oid where t.oid = base;
  if found then
    return hark.is_plain(element);
  end if;
  select t.typrelid into composite from pg_type t where t.oid = base and t.typtype = 'c';
  if found then
    return not exists (
      select from pg_attribute a
      where a.attrelid = composite and a.attnum > 0 and not a.attisdropped and not hark.is_plain(a.atttypid)
    );
  end if;
  return base < 16384 and base <> all (array['json'::regtype, '"char"'::regtype]::oid[]);
end
$$;

-- A reference to a column, as its base type of any length: "character" alone would be one of them.
create function hark.as_base(reference text, type oid) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case when hark.base_type($2) = $2 then $1
    else format('(%s)::%s', $1, format_type(hark.base_type($2), -1)) end
$$;

-- The text of a value by its type's output function, never by a cast, which a user may have made.
create function hark.output_of(reference text, type oid) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case
    when exists (select from pg_type e where e.oid = t.typelem and e.typarray = t.oid) then format('array_out(%s)::text', b.reference)
    when t.typtype = 'e' then format('enum_out(%s)::text', b.reference)
    when t.typtype = 'r' then format('range_out(%s)::text', b.reference)
    when t.typtype = 'm' then format('multirange_out(%s)::text', b.reference)
    when t.typtype = 'c' then format('record_out(%s)::text', b.reference)
    when t.oid < 16384 then format('(%s)::text', b.reference)
    else format('case when %1$s is null then null else format(''%%s'', %1$s) end', b.reference)
  end
  from pg_type t, (select hark.as_base($1, $2)) b (reference)
  where t.oid = (select hark.base_type($2))
$$;

-- The expression of a column's value as jsonb.
create function hark.value_of(reference text, type oid) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case
    when t.oid = 'jsonb'::regtype then b.reference
    when hark.is_plain(t.oid) then format('to_jsonb(%s)', b.reference)
    when t.oid = 'json'::regtype then format('hark.json_value(%s)', b.reference)
    -- From 128 up it is half a character, which PostgreSQL before 16 gives as it is.
    when t.oid = '"char"'::regtype then format(
      'to_jsonb(case when (%1$s)::int4 < 0 then ''\\'' || ((%1$s)::int4 + 256) / 64'
      ' || ((%1$s)::int4 + 256) / 8 %% 8 || ((%1$s)::int4 + 256) %% 8 else (%1$s)::text end)', b.reference)
    when e.oid is not null and e.typdelim = ',' then
      format('to_jsonb((%s)::text[])', hark.output_of($1, $2))
    else format('to_jsonb(%s)', hark.output_of($1, $2))
  end
  from pg_type t
  cross join (select hark.as_base($1, $2)) b (reference)
  left join pg_type e on e.oid = t.typelem and e.typarray = t.oid
  where t.oid = (select hark.base_type($2))
$$;

-- The expression of a key column's text: values that are equal have one text.
create function hark.key_text(reference text, type oid, collated oid) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  base oid := hark.base_type(type);
  value text := hark.as_base(reference, type);
  kind "char" := (select t.typtype from pg_type t where t.oid = base);
  one_text constant oid[] := array['int2', 'int4', 'int8', 'oid', 'bool', 'uuid', 'date', 'timestamp', 'timestamptz',
    'time', 'name', 'bytea', 'inet', 'cidr', 'macaddr', 'macaddr8', 'bpchar', 'pg_lsn', 'xid8']::regtype[];
begin
  if base = any (one_text) or kind = 'e'
    or base = any (array['text', 'varchar']::regtype[]::oid[])
      and coalesce((select c.collisdeterministic from pg_collation c where c.oid = collated), true)
  then
    return hark.output_of(reference, type);
  elsif base = 'numeric'::regtype then
    return format('trim_scale(%s)::text', value);
  elsif base = any (array['float4', 'float8']::regtype[]::oid[]) then
    return format('(%s + 0)::text', value);
  elsif exists (
    select from pg_opclass o join pg_am m on m.oid = o.opcmethod
    where m.amname = 'hash' and o.opcdefault and o.opcintype = base
  ) then
    return format('case when %1$s is null then null else ''#'' || hash_record_extended(row(%1$s), 0) end', value);
  end if;
  return hark.output_of(reference, type);
end
$$;

-- The condition that two values of a column are not the same: not only unequal, as 1.0 and 1.00 are equal.
create function hark.differs(old text, new text, type oid, collated oid) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case
    when $3 = any (array['int2', 'int4', 'int8', 'oid', 'bool', 'uuid', 'date', 'timestamp', 'timestamptz']::regtype[]::oid[])
      or $3 = any (array['text', 'varchar']::regtype[]::oid[])
        and coalesce((select c.collisdeterministic from pg_collation c where c.oid = $4), true)
    then format('%s is distinct from %s', $1, $2)
    else format('row(%s)::record *<> row(%s)::record', $1, $2)
  end
$$;

-- How many bytes of jsonb a value makes, about, without making it.
create function hark.size_of(reference text, type oid) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case
    when t.typlen > 0 then '40'
    when t.oid = any (array['text', 'varchar', 'bpchar']::regtype[]::oid[])
      then format('coalesce(octet_length(%s), 0)', b.reference)
    when t.oid = 'bytea'::regtype then format('2 * coalesce(octet_length(%s), 0)', b.reference)
    -- In an array it is unpacked, whatever its type.
    when t.oid = any (array['xml', 'jsonb', 'numeric']::regtype[]::oid[])
      then format('coalesce(pg_column_size(array[%s])::bigint, 0)', b.reference)
    when t.oid = 'json'::regtype then format('coalesce(2 * pg_column_size(array[%s])::bigint, 0)', b.reference)
    -- An element of an array may be null, which takes a bit there.
    when e.oid = any (array['text', 'varchar', 'bpchar', 'jsonb', 'numeric']::regtype[]::oid[])
      then format('pg_column_size(array[%1$s])::bigint + 16 * coalesce(cardinality(%1$s), 0)', b.reference)
    when e.oid is not null
      then format('4 * pg_column_size(array[%1$s])::bigint + %2$s * coalesce(cardinality(%1$s), 0)', b.reference,
        -- The names of a composite type's columns stand in each element.
        16 + coalesce((select sum(octet_length(a.attname::text) + 16) from pg_attribute a
          where a.attrelid = (select c.typrelid from pg_type c where c.oid = hark.base_type(e.oid)) and a.attnum > 0), 0))
    else format('coalesce(10 * pg_column_size(array[%s])::bigint, 0)', b.reference)
  end
  from pg_type t
  cross join (select hark.as_base($1, $2)) b (reference)
  left join pg_type e on e.oid = t.typelem and e.typarray = t.oid
  where t.oid = (select hark.base_type($2))
$$;

revoke execute on all functions in schema hark from public;
`,
  },
  {
    version: 17,
    name: "statements",
    sql: `-- Hark 017: the statements by which a trigger publishes, generated from a watch's definition and its table's columns.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (17, 'statements');

-- The numbers of columns that a definition lists by name. Columns are followed through renaming where the table is the
-- one that was watched; where that column is gone, and in a restored copy, which has other numbers, names count. With
-- \`either\` both do: what was to be left out stays out, under its name and under its number.
create function hark.listed(relation oid, definition jsonb, names text[], either boolean default false) returns smallint[]
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(distinct_ones.attnum order by distinct_ones.place), '{}')
  from (
    select a.attnum, min(n.place) as place
    from unnest($3) with ordinality n (name, place)
    left join lateral (
      select min(c.attnum) as attnum
      from jsonb_each_text(case when $2 ->> 'relation' = $1::text then $2 -> 'columns' else '{}' end) k
      join pg_attribute c on c.attrelid = $1 and c.attnum = k.key::smallint and not c.attisdropped
      where k.value = n.name
    ) followed on true
    join pg_attribute a on a.attrelid = $1 and a.attnum > 0 and not a.attisdropped
      and (a.attnum = followed.attnum or a.attname = n.name and ($4 or followed.attnum is null))
    group by a.attnum
  ) distinct_ones
$$;

create function hark.key_columns(relation oid, definition jsonb) returns smallint[]
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case
    when jsonb_typeof($2 -> 'key') = 'array' then
      hark.listed($1, $2, array(select k.name from jsonb_array_elements_text($2 -> 'key') k (name)))
    else coalesce((select array_agg(k.attnum order by k.place) from pg_index i
      cross join lateral unnest(i.indkey::smallint[]) with ordinality k (attnum, place)
      where i.indrelid = $1 and i.indisprimary), '{}')
  end
$$;

-- The columns of a watch: which are in its payload, where in its key, and which are looked at for changes. A virtual
-- generated column (PostgreSQL 18) has no value in a trigger.
create function hark.watched_columns(relation oid, definition jsonb)
returns table (attnum smallint, name text, type oid, collated oid, length smallint, included boolean, key_place integer,
  looked_at boolean)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with list as materialized (
    select hark.key_columns($1, $2) as keys,
      case when jsonb_typeof($2 -> 'include') = 'array' then hark.listed($1, $2,
        array(select c.name from jsonb_array_elements_text($2 -> 'include') c (name))) end as include,
      case when jsonb_typeof($2 -> 'exclude') = 'array' then hark.listed($1, $2,
        array(select c.name from jsonb_array_elements_text($2 -> 'exclude') c (name)), true) end as exclude,
      case when jsonb_typeof($2 -> 'if_changed') = 'array' then hark.listed($1, $2,
        array(select c.name from jsonb_array_elements_text($2 -> 'if_changed') c (name))) end as looked_at
  )
  select a.attnum, a.attname::text, a.atttypid, a.attcollation, a.attlen, i.included,
    array_position(l.keys, a.attnum),
    case when $2 -> 'if_changed' = '["*"]' then i.included else coalesce(a.attnum = any (l.looked_at), false) end
  from list l
  join pg_attribute a on a.attrelid = $1 and a.attnum > 0 and not a.attisdropped
  cross join lateral (
    select a.attgenerated <> 'v' and coalesce(a.attnum = any (l.include), a.attnum <> all (l.exclude), true)
      -- In a restored copy a column of another name than was known may be one that was to be left out.
      and (l.exclude is null or $2 ->> 'relation' = $1::text
        or exists (select from jsonb_each_text($2 -> 'columns') k where k.value = a.attname))
  ) i (included)
  order by a.attnum
$$;

-- The same, once for all that a statement is made of, with the expressions that depend on a column's type alone. They
-- are made once for each type, as that takes a while. What stands for the columns in a comparison is longer than any
-- name, so that no name holds it.
create function hark.described(relation oid, definition jsonb) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with columns as materialized (
    select * from hark.watched_columns($1, $2)
  ),
  kinds as materialized (
    select k.type, k.collated, p.plain, b.typtype = 'c' or b.typelem <> 0 and b.typlen = -1 as nested, hark.size_of('%1$s', k.type) as size,
      case when p.plain then hark.as_base('%1$s', k.type) else hark.value_of('%1$s', k.type) end as argument,
      hark.differs(repeat('o', 64), repeat('n', 64), k.type, k.collated) as differs
    from (select distinct c.type, c.collated from columns c) k
    cross join lateral (select hark.is_plain(k.type)) p (plain)
    join pg_type b on b.oid = hark.base_type(k.type)
  )
  select coalesce(jsonb_agg(jsonb_build_object('name', c.name, 'type', c.type, 'length', c.length, 'included', c.included,
    'key_place', c.key_place, 'looked_at', c.looked_at, 'plain', k.plain, 'nested', k.nested, 'argument', k.argument,
    'key', case when c.key_place is not null then hark.key_text('%1$s', c.type, c.collated) end,
    'differs', replace(replace(k.differs, repeat('o', 64), format('old.%I', c.name)), repeat('n', 64), format('new.%I', c.name)),
    'size', k.size) order by c.attnum), '[]')
  from columns c
  join kinds k on k.type = c.type and k.collated = c.collated
$$;

create function hark.columns_in(described jsonb)
returns table (name text, type oid, length smallint, included boolean, key_place integer, looked_at boolean,
  plain boolean, nested boolean, argument text, key text, differs text, size text, place bigint)
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select c.* from rows from (jsonb_to_recordset($1) as (name text, type oid, length smallint, included boolean,
    key_place integer, looked_at boolean, plain boolean, nested boolean, argument text, key text, differs text, size text))
    with ordinality c
$$;

-- What the statements of a watch depend on, as a number: names, types and collations of the table's columns, and of
-- the composite types among them. A trigger compares it at each statement, so it is cheap and regards no order.
create function hark.shape_query(relations text) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select format('select bit_xor(hashtextextended(a.attname::text || '' '' || a.atttypid::text || '' '' || '
    'a.attcollation::text || '' '' || a.attgenerated::text, 0)) from pg_attribute a '
    'where a.attrelid = %s and a.attnum > 0 and not a.attisdropped', $1)
$$;

create function hark.composites_of(relation oid) returns oid[]
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with recursive inner_ones (relation) as (
    select $1
    union
    select t.typrelid
    from inner_ones i
    join pg_attribute a on a.attrelid = i.relation and a.attnum > 0 and not a.attisdropped
    join pg_type b on b.oid = hark.base_type(a.atttypid)
    left join pg_type e on e.oid = b.typelem and e.typarray = b.oid
    join pg_type t on t.oid = case when e.oid is null then b.oid else hark.base_type(e.oid) end and t.typtype = 'c'
  )
  select array_agg(i.relation order by i.relation = $1 desc, i.relation) from inner_ones i
$$;

-- A column of one of the two rows, in an expression of hark.described.
create function hark.in_row(expression text, alias text, name text) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$ select replace($1, '%1$s', format('%I.%I', $2, $3)) $$;

create function hark.row_value(described jsonb, alias text, as_a_whole boolean) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  -- A function takes 100 arguments.
  select case
    when $3 and bool_and(part.all_plain) then format('to_jsonb(%I.*)', $2)
    else coalesce(string_agg(format('jsonb_build_object(%s)', part.pairs), ' || ' order by part.number), '''{}''::jsonb')
  end
  from (
    select (c.place - 1) / 45,
      string_agg(format('%L, %s', c.name, hark.in_row(c.argument, $2, c.name)), ', ' order by c.place) filter (where c.included),
      bool_and(c.included and c.plain)
    from hark.columns_in($1) c
    group by 1
  ) part (number, pairs, all_plain)
  where part.pairs is not null or $3
$$;

-- Whether a row as jsonb_build_object would make it is what the watch publishes.
create function hark.is_whole(described jsonb) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$ select coalesce(bool_and(c.included and c.plain), false) from hark.columns_in($1) c $$;

create function hark.id_value(described jsonb, alias text, by_hand boolean) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  -- As an argument of jsonb_build_object. Columns chosen by hand may be of any size; an index bounds those of a
  -- primary key.
  select case when bool_or(c.length < 0) and $3
    then format('case when %s > 8000 then null else to_jsonb(%s) end',
      string_agg(format('coalesce(pg_column_size(%I.%I), 0)', $2, c.name), ' + '), max(v.value))
    else coalesce(max(v.value), 'null') end
  from hark.columns_in($1) c
  cross join (
    select case count(*)
      when 0 then null
      when 1 then max(hark.in_row(k.argument, $2, k.name))
      else format('jsonb_build_object(%s)',
        string_agg(format('%L, %s', k.name, hark.in_row(k.argument, $2, k.name)), ', ' order by k.key_place))
    end
    from hark.columns_in($1) k where k.key_place is not null
  ) v (value)
  where c.key_place is not null
$$;

-- The key of the notification; over 1,000 characters its beginning and a digest.
create function hark.key_value(described jsonb, alias text) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case
    when v.count = 0 then 'null::text'
    when v.fixed then x.text
    else format('case when char_length(%1$s) > 1000 then left(%1$s, 900) || ''#'' || md5(%1$s) else %1$s end', x.text)
  end
  from (
    select count(*), bool_and(k.length > 0), string_agg(hark.in_row(k.key, $2, k.name), ', ' order by k.key_place)
    from hark.columns_in($1) k where k.key_place is not null
  ) v (count, fixed, texts)
  cross join lateral (
    select case when v.count = 1 then v.texts else format('jsonb_build_array(%s)::text', v.texts) end
  ) x (text)
$$;

-- The condition that rows would make a payload of over max_bytes. What is stored compressed may be 256 times as large,
-- so first it only looks at that. A null in an array is a bit, which is compressed as well.
create function hark.is_wide(described jsonb, max_bytes text, aliases text[]) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case when w.stored is null then 'false'
    else format('case when %4$s > %1$s / 256 then %2$s > %1$s or %3$s > %1$s else false end', $2, w.stored, w.made, w.unpacked) end
  from (
    select string_agg(format('coalesce(pg_column_size(%I.%I), 0)::bigint', a.alias, c.name), ' + ') filter (where c.length < 0),
      string_agg(format('coalesce(pg_column_size(%I.%I), 0)::bigint%s', a.alias, c.name, case when c.nested then ' * 64' end), ' + ') filter (where c.length < 0),
      string_agg(hark.in_row(c.size, a.alias, c.name), ' + ')
    from hark.columns_in($1) c
    cross join unnest($3) a (alias)
    where c.included
  ) w (stored, unpacked, made)
$$;

-- The statements that publish what an operation did, of the rows that \`old\` and \`new\` give: none where the operation is
-- not one of the watch's. \`head\` and \`headers\` are expressions; \`facts\` are the pairs that head is made of, where they
-- are at hand: to make a payload with rows at once takes less than to add them to one.
create function hark.watch_statements(
  relation oid, definition jsonb, operation text, old text, new text, head text, headers text, facts text default null
) returns text[]
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  d jsonb := definition;
  payload text := d ->> 'payload';
  full_rows boolean := payload = any (array['full', 'diff']);
  cs jsonb := hark.described(relation, d);
  has_key boolean := jsonb_path_exists(cs, '$[*].key_place ? (@ != null)');
  by_hand boolean := jsonb_typeof(d -> 'key') = 'array';
  by_number text;
  whole_row text;
  nothing text;
  source text;
  condition text := coalesce('(' || (d ->> 'condition') || E'\\n)', 'true');
  moved text := 'false';
  changed text;
  looked_at text;
  unchanged text;
  fields text;
  is_wide text;
  columns text;
  old_columns text;
  at_once boolean := facts is not null and hark.is_whole(cs);
  begin_of text := 'insert into hark.published (channel, key, payload, headers)';
  whole text := case when facts is null or not (full_rows or payload = 'new' and operation <> 'DELETE') then head || ' || jsonb_build_object(%s)' else 'jsonb_build_object(' || replace(facts, '%', '%%') || ', %s)' end;
  made text[] := '{}';
begin
  if not d -> 'operations' ? lower(operation) then
    return made;
  end if;
  if operation = 'TRUNCATE' then
    return array[format('%s values (%L, null, %s || ''{"id": null}'', %s)', begin_of, d ->> 'channel', head, headers)];
  end if;
  -- A row of nulls, without the table's name, which may change.
  nothing := format('(select r.* from (select 1) hark_one left join %s r on false)',
    case operation when 'DELETE' then old else new end);
  if operation <> 'UPDATE' then
    declare
      row_alias text := case operation when 'INSERT' then 'new' else 'old' end;
      has_row boolean := payload <> 'key' and (operation = 'INSERT' or full_rows);
    begin
      source := format('%s as %I', case operation when 'INSERT' then new else old end, row_alias);
      if d ->> 'condition' is not null then
        source := format('%s cross join %s as %I', source, nothing, case operation when 'INSERT' then 'old' else 'new' end);
      end if;
      fields := format(whole, format('''id'', %s%s', hark.id_value(cs, row_alias, by_hand),
        case when has_row then format(', %L, %s', row_alias,
          case when at_once then format('%I.*', row_alias) else hark.row_value(cs, row_alias, true) end) else '' end));
      if has_row then
        fields := format('case when %s then %s || jsonb_build_object(''id'', %s, ''truncated'', true) else %s end',
          hark.is_wide(cs, d ->> 'max_bytes', array[row_alias]), head, hark.id_value(cs, row_alias, by_hand), fields);
      end if;
      return array[format('%s select %L, %s, %s, %s from %s where %s', begin_of, d ->> 'channel',
        hark.key_value(cs, row_alias), fields, headers, source, condition)];
    end;
  end if;

  -- An UPDATE. Old and new rows stand in the same order in the two transition tables; nothing documents it, tests
  -- hold it fast for updates of keys, moves between partitions and MERGE.
  if d ->> 'mode' = 'statement' then
    by_number := 'hark_n';
    while exists (select from hark.columns_in(cs) c where c.name = by_number) loop
      by_number := by_number || '_';
    end loop;
    whole_row := by_number || 'r';
    while exists (select from hark.columns_in(cs) c where c.name = whole_row) loop
      whole_row := whole_row || '_';
    end loop;
    at_once := at_once and payload <> 'key';
    source := format(
      '(select row_number() over () as %3$I, %5$I.*%4$s from %1$s %5$I) as old join '
      '(select row_number() over () as %3$I, %5$I.*%4$s from %2$s %5$I) as new on new.%3$I = old.%3$I', old, new, by_number,
      case when at_once then format(', %1$I as %1$I', whole_row) end, whole_row);
  else
    at_once := false;
    source := format('%s as old cross join %s as new', old, new);
  end if;
  -- An argument of jsonb_build_object, which makes an object of a row faster than it copies one.
  old_columns := case when at_once then format('old.%I', whole_row) else hark.row_value(cs, 'old', false) end;
  columns := case when at_once then format('new.%I', whole_row) else hark.row_value(cs, 'new', false) end;
  select coalesce(string_agg(k.differs, ' or ') filter (where k.key_place is not null), 'false'),
    string_agg(k.differs, ' or ') filter (where k.looked_at),
    format('to_jsonb(array_remove(array[%s]::text[], null))',
      string_agg(format('case when %s then %L end', k.differs, k.name), ', ') filter (where k.included)),
    format('array_remove(array[%s]::text[], null)',
      string_agg(format('case when %s then null else %L end', k.differs, k.name), ', ') filter (where k.included))
  into moved, looked_at, changed, unchanged
  from (
    select c.name, c.included, c.key_place, c.looked_at, c.differs from hark.columns_in(cs) c order by c.place
  ) k (name, included, key_place, looked_at, differs);
  if moved <> 'false' then
    -- Values that are equal have one key, so first whether they differ, then whether their keys do.
    moved := format('((%s) and %s <> %s)', moved, hark.key_value(cs, 'old'), hark.key_value(cs, 'new'));
    if by_hand then
      moved := format('((%s) is distinct from (%s))', hark.key_value(cs, 'old'), hark.key_value(cs, 'new'));
    end if;
  end if;
  if jsonb_typeof(d -> 'if_changed') = 'array' then
    -- Where the columns to look at are gone, every update counts.
    condition := format('%s and (%s or %s)', condition, coalesce(looked_at, 'true'), moved);
  end if;
  is_wide := format('(%s)', hark.is_wide(cs, d ->> 'max_bytes', case when full_rows then array['old', 'new'] else array['new'] end));
  if has_key then
    -- All that leave a key before any that comes to it: UPDATE … SET id = id + 1.
    made := made || format('%s select %L, %s, %s || %s, %s from %s where %s and %s', begin_of, d ->> 'channel',
      hark.key_value(cs, 'old'), head,
      '''{"action": "DELETE", "moved": true}''::jsonb || ' || case when full_rows
        then format('case when %1$s then jsonb_build_object(''id'', %2$s, ''truncated'', true) '
          'else jsonb_build_object(''id'', %2$s, ''old'', %3$s) end',
          hark.is_wide(cs, d ->> 'max_bytes', array['old']), hark.id_value(cs, 'old', by_hand), old_columns)
        else format('jsonb_build_object(''id'', %s)', hark.id_value(cs, 'old', by_hand)) end,
      headers, source, condition, moved);
  end if;
  fields := format('''id'', %s', hark.id_value(cs, 'new', by_hand));
  fields := format(whole, case payload
    when 'key' then fields
    when 'new' then format('%s, ''new'', %s', fields, columns)
    when 'full' then format('%s, ''old'', %s, ''new'', %s, ''changed'', %s', fields,
      old_columns, columns, coalesce(changed, '''[]''::jsonb'))
    else format('%1$s, ''old'', (%2$s) - %4$s, ''new'', (%3$s) - %4$s, ''changed'', %5$s', fields,
      case when at_once then format('to_jsonb(%s)', old_columns) else old_columns end,
      case when at_once then format('to_jsonb(%s)', columns) else columns end, coalesce(unchanged, '''{}''::text[]'), coalesce(changed, '''[]''::jsonb'))
  end);
  if has_key then
    fields := format('case when %s then %s || ''{"action": "INSERT", "moved": true}''::jsonb || jsonb_build_object(''id'', %s%s) '
      'else %s end', moved, head, hark.id_value(cs, 'new', by_hand),
      case when payload = 'key' then '' else format(', ''new'', %s', columns) end, fields);
  end if;
  if payload <> 'key' then
    fields := format('case when %s then %s || %s || jsonb_build_object(''id'', %s, ''truncated'', true) else %s end', is_wide, head,
      case when has_key then format('case when %s then ''{"action": "INSERT", "moved": true}''::jsonb else ''{}'' end', moved)
        else '''{}''::jsonb' end,
      hark.id_value(cs, 'new', by_hand), fields);
  end if;
  return made || format('%s select %L, %s, %s, %s from %s where %s', begin_of, d ->> 'channel',
    hark.key_value(cs, 'new'), fields, headers, source, condition);
end
$$;

revoke execute on all functions in schema hark from public;
`,
  },
  {
    version: 18,
    name: "definition",
    sql: `-- Hark 018: the definition of a watch: what can be watched and how, and the text of its trigger function.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (18, 'definition');

-- The tables beneath a partitioned or inherited one, itself first.
create function hark.tree_of(relation oid) returns oid[]
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with recursive tree (relation) as (
    select $1
    union
    select i.inhrelid from tree t join pg_inherits i on i.inhparent = t.relation
  )
  select array_agg(t.relation order by t.relation = $1 desc, t.relation) from tree t
$$;

-- The trigger functions of watches, by which Hark tells its own triggers from others.
create function hark.is_watch_function(function oid) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select exists (select from pg_proc p where p.oid = $1 and (p.proname ~ '^hark_watch_'
    or p.pronamespace = (select n.oid from pg_namespace n where n.nspname = 'hark')))
$$;

-- How a table is to be watched. Statement triggers publish all rows of a statement by one insert; where that would
-- miss rows, or publish them in another order than they were written, a trigger a row.
create function hark.watch_mode(relation oid, replicated boolean) returns table (mode text, reason text)
language sql stable rows 1 set search_path = pg_catalog, pg_temp
as $$
  select case when r.reason is null then 'statement' when c.relkind = 'v' then 'instead' else 'row' end, r.reason
  from pg_class c
  cross join lateral (select coalesce(
    case c.relkind
      when 'v' then 'a view has no AFTER triggers for rows: an INSTEAD OF trigger after the view''s own'
      when 'f' then 'a foreign table has no transition tables'
      when 'p' then 'writes to a partition would pass by the triggers of the partitioned table; a row that moves to another partition counts as DELETE and INSERT'
    end,
    case when c.relispartition then 'writes through the partitioned table would pass by the triggers of a partition' end,
    (select 'writes through a table that inherits or is inherited would pass by the other''s triggers'
      from pg_inherits i where c.oid in (i.inhrelid, i.inhparent) limit 1),
    case when $2 then 'rows that logical replication applies fire only triggers for each row' end,
    (select format('trigger %I may write to the table itself, which would be published before what caused it', t.tgname)
      from pg_trigger t
      where t.tgrelid = c.oid and not t.tgisinternal and t.tgenabled <> 'D' and t.tgtype & 66 = 0
        and not hark.is_watch_function(t.tgfoid)
      order by t.tgname limit 1),
    (with recursive caused (relation) as (
        select k.conrelid from pg_constraint k
        where k.confrelid = c.oid and k.contype = 'f'
          and (k.confdeltype in ('c', 'n', 'd') or k.confupdtype in ('c', 'n', 'd'))
        union
        select k.conrelid from caused w
        join pg_constraint k on k.confrelid = w.relation and k.contype = 'f'
          and (k.confdeltype in ('c', 'n', 'd') or k.confupdtype in ('c', 'n', 'd'))
      )
      select 'a foreign key changes rows of the table because of others of it, which would be published before their cause'
      from caused w where w.relation = c.oid),
    -- What foreign keys do within one statement comes as one set of rows, changed twice or not, in no order that can
    -- be followed. So the ways are counted by which a row of another table, deleted or updated, comes to this table.
    (with recursive above (relation) as (
        select k.confrelid from pg_constraint k where k.conrelid = c.oid and k.contype = 'f'
        union
        select k.confrelid from above w join pg_constraint k on k.conrelid = w.relation and k.contype = 'f'
      ), ways (origin, event, relation, is_update, columns, by, length) as (
        select w.relation, e.event, w.relation, e.event = 'update', null::smallint[], null::oid, 0
        from above w cross join (values ('delete'), ('update')) e (event)
        union
        select w.origin, w.event, k.conrelid, w.is_update or k.confdeltype <> 'c', k.conkey, k.oid, w.length + 1
        from ways w join pg_constraint k on k.confrelid = w.relation and k.contype = 'f'
          and case when w.is_update then k.confupdtype in ('c', 'n', 'd') and (w.columns is null or k.confkey && w.columns)
            else k.confdeltype in ('c', 'n', 'd') end
        where w.length < 8 and (w.relation <> c.oid or w.length = 0)
      )
      select format('several foreign keys change its rows because of %s, perhaps one row twice', min(w.origin)::regclass)
      from ways w where w.relation = c.oid and w.length > 0
      group by w.origin, w.event having count(*) > 1 and bool_or(w.is_update) limit 1)
  )) r (reason)
  where c.oid = $1
$$;

-- Refuses what cannot be watched, and says why.
create function hark.require_watchable(relation oid) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  c record;
  named text := relation::regclass::text;
begin
  select k.relkind, k.relpersistence, k.relowner, n.nspname, k.relname into c
  from pg_class k join pg_namespace n on n.oid = k.relnamespace where k.oid = relation;
  if not found then
    raise exception 'there is no table %', named using errcode = 'undefined_table';
  elsif c.relpersistence = 't' then
    raise exception 'table % is temporary and cannot be watched', named
      using errcode = 'HK006', hint = 'It ends with its session, and nobody else sees it: publish with hark.notify instead.';
  elsif c.relkind = 'm' then
    raise exception '% is a materialized view, which has no triggers', named
      using errcode = 'HK006', hint = 'Watch the tables that it is made from.';
  elsif not c.relkind = any (array['r', 'p', 'f', 'v']::"char"[]) then
    raise exception '% is not a table', named using errcode = 'HK006', hint = 'Give a table, or a view with INSTEAD OF triggers.';
  elsif c.nspname = any (array['pg_catalog', 'information_schema', 'pg_toast']) then
    raise exception '% belongs to PostgreSQL and cannot be watched', named
      using errcode = 'HK006', hint = 'System catalogs take no triggers.';
  elsif c.nspname = 'hark' then
    raise exception '% belongs to Hark: to publish what is published would have no end', named
      using errcode = 'HK006', hint = 'Read the channels themselves.';
  elsif c.relkind = 'v' and not exists (
    select from pg_trigger t where t.tgrelid = relation and t.tgtype & 64 <> 0 and not hark.is_watch_function(t.tgfoid)
  ) then
    raise exception 'view % has no INSTEAD OF triggers: what is written to it is written to its tables', named
      using errcode = 'HK006', hint = 'Watch the tables that it selects from.';
  elsif exists (
    select from pg_trigger t where t.tgrelid = relation and t.tgtype & 64 <> 0 and t.tgname >= '~hark_'
      and not hark.is_watch_function(t.tgfoid)
  ) then
    raise exception 'view % has an INSTEAD OF trigger whose name comes after "~hark_": it would be published before it is written', named
      using errcode = 'HK006', hint = 'Triggers fire in the order of their names: rename it with ALTER TRIGGER.';
  elsif not pg_has_role(c.relowner, 'usage') then
    raise exception 'table % belongs to role "%"', named, pg_get_userbyid(c.relowner)
      using errcode = 'insufficient_privilege', hint = 'Only its owner can have it watched.';
  end if;
end
$$;

create function hark.require_columns(relation oid, what text, names text[]) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  missing text;
begin
  select n.name into missing from unnest(names) n (name)
  where not exists (
    select from pg_attribute a
    where a.attrelid = relation and a.attnum > 0 and not a.attisdropped and a.attname = n.name
  ) limit 1;
  if missing is not null or array_position(names, null) is not null then
    raise exception '% names column %, which table % does not have', what, coalesce('"' || missing || '"', 'null'), relation::regclass
      using errcode = 'HK006', hint = format('It has %s.', (select string_agg(quote_ident(a.attname), ', ' order by a.attnum)
        from pg_attribute a where a.attrelid = relation and a.attnum > 0 and not a.attisdropped));
  elsif cardinality(names) = 0 then
    raise exception '% is empty', what using errcode = 'HK006', hint = 'Name at least one column, or leave it out.';
  end if;
end
$$;

-- Checks what hark.watch was given, and makes a definition of it.
create function hark.watch_definition(
  relation oid, channel text, name text, operations text[], include text[], exclude text[], key text[], condition text,
  if_changed text[], payload text, headers jsonb, max_bytes bigint, replicated boolean, level text
) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  chosen record;
  of record;
  wrong text;
  known constant text[] := array['insert', 'update', 'delete', 'truncate'];
begin
  perform hark.require_watchable(relation);
  select k.relkind, k.relname, n.nspname into of
  from pg_class k join pg_namespace n on n.oid = k.relnamespace where k.oid = relation;
  channel := coalesce(channel, left(format('%s.%s', of.nspname, of.relname), 200));
  if char_length(channel) not between 1 and 200 then
    raise exception 'channel "%" has % characters', left(channel, 80), char_length(channel)
      using errcode = 'HK006', hint = 'Give a channel of 1 to 200 characters.';
  elsif name is null or octet_length(name) not between 1 and 40 then
    raise exception 'the watch is named "%"', left(name, 80)
      using errcode = 'HK006', hint = 'Give a name of 1 to 40 bytes.';
  end if;
  operations := array(select distinct lower(o.o) from unnest(operations) o (o) order by 1);
  select o.o into wrong from unnest(operations) o (o) where not coalesce(o.o = any (known), false) limit 1;
  if operations = '{}' or found then
    raise exception 'operations are %', operations
      using errcode = 'HK006', hint = 'Give some of insert, update, delete and truncate.';
  elsif payload is null or not payload = any (array['full', 'new', 'diff', 'key']) then
    raise exception 'the payload is "%"', payload using errcode = 'HK006', hint = 'Give full, new, diff or key.';
  elsif level is null or not level = any (array['auto', 'statement', 'row']) then
    raise exception 'the level is "%"', level using errcode = 'HK006', hint = 'Give auto, statement or row.';
  elsif max_bytes is null or max_bytes not between 1000 and 67108864 then
    raise exception 'max_bytes is %', max_bytes using errcode = 'HK006', hint = 'Give 1000 to 67108864 (64 MiB).';
  elsif headers is not null and jsonb_typeof(headers) <> 'object' then
    raise exception 'the headers are %, which is not an object', left(headers::text, 80)
      using errcode = 'HK006', hint = 'Give an object, such as {"source": "app"}.';
  elsif include is not null and exclude is not null then
    raise exception 'both include and exclude are given' using errcode = 'HK006', hint = 'Give one of them.';
  end if;
  perform hark.require_columns(relation, 'include', include);
  perform hark.require_columns(relation, 'exclude', exclude);
  perform hark.require_columns(relation, 'key', key);
  if if_changed <> '{*}' then
    perform hark.require_columns(relation, 'if_changed', if_changed);
  end if;
  select * into chosen from hark.watch_mode(relation, coalesce(replicated, false));
  if level = 'statement' and chosen.mode <> 'statement' and (of.relkind <> 'r' or replicated
    or exists (select from pg_inherits i where relation = any (array[i.inhrelid, i.inhparent])))
  then
    raise exception 'table % cannot be watched by statement: %', relation::regclass, chosen.reason
      using errcode = 'HK006', hint = 'Leave the level to auto.';
  elsif level <> 'auto' and chosen.mode <> 'instead' then
    chosen.mode := level;
    chosen.reason := 'as asked for';
  end if;
  if condition is not null then
    -- As what stands in the brackets of a type's name it must be one expression.
    begin
      perform to_regtype('pg_catalog.hark_condition(' || condition || E'\\n)');
    exception when others then
      raise exception 'the condition "%" cannot be used: %', left(condition, 200), sqlerrm using errcode = 'HK006',
        hint = 'Give one condition on old and new, such as new.status = ''paid''.';
    end;
  end if;
  return jsonb_build_object('relation', relation::text, 'schema', of.nspname, 'table', of.relname, 'name', name,
    'channel', channel, 'operations', operations, 'include', include, 'exclude', exclude, 'key', key,
    'condition', condition, 'if_changed', if_changed, 'payload', payload, 'headers', headers, 'max_bytes', max_bytes,
    'replicated', coalesce(replicated, false), 'level', level, 'mode', chosen.mode, 'reason', chosen.reason,
    'tree', cardinality(hark.tree_of(relation)) > 1 or of.relkind = 'p',
    'columns', (select coalesce(jsonb_object_agg(a.attnum, a.attname), '{}') from pg_attribute a
      where a.attrelid = relation and a.attnum > 0 and not a.attisdropped));
end
$$;

-- Looks up the names and types of a condition, as the table's owner: a literal of a user's type is made by functions of
-- that user's as soon as it is read, and the caller may have more rights than the owner.
create function hark.require_condition(relation oid, condition text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  of record;
  probe text;
begin
  if condition is null then
    return;
  end if;
  select n.nspname, pg_get_userbyid(c.relowner) as owner into of
  from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = relation;
  probe := format('%I.%I', of.nspname, 'hark_probe_' || replace(gen_random_uuid()::text, '-', ''));
  execute format('create function %s() returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as %L',
    probe, format('declare probe refcursor; begin open probe for execute %L; close probe; end',
      format('select from (select (null::%1$s).*) as old cross join (select (null::%1$s).*) as new where case when false then (%2$s'
        || E'\\n) end', relation::regclass, condition)));
  execute format('revoke execute on function %s() from public', probe);
  if of.owner <> current_user then
    execute format('alter function %s() owner to %I', probe, of.owner);
    execute format('grant execute on function %s() to %I', probe, current_user);
  end if;
  begin
    execute format('select %s()', probe);
  exception when others then
    raise exception 'the condition "%" cannot be used: %', left(condition, 200), sqlerrm using errcode = 'HK006',
      hint = 'Give a condition on old and new, such as new.status = ''paid''; functions and types not of PostgreSQL''s own need their schema''s name.';
  end;
  execute format('drop function %s()', probe);
end
$$;

-- The watched table of a trigger's row: of a partition the table above it that has the same trigger function.
create function hark.watched_root(relation oid, function oid) returns oid
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with recursive up (relation, height) as (
    select $1, 0
    union
    select i.inhparent, u.height + 1 from up u join pg_inherits i on i.inhrelid = u.relation
  )
  select coalesce((
    select u.relation from up u
    where exists (select from pg_trigger t where t.tgrelid = u.relation and t.tgfoid = $2)
    order by u.height desc limit 1
  ), $1)
$$;

-- The text of the trigger function.
create function hark.watch_body(relation oid, definition jsonb) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  d jsonb := definition;
  tree boolean := (d ->> 'tree')::boolean;
  by_statement boolean := d ->> 'mode' = 'statement';
  old text := case when by_statement then 'hark_old' else '(select (old).*)' end;
  new text := case when by_statement then 'hark_new' else '(select (new).*)' end;
  composites oid[] := hark.composites_of(relation);
  root text := case when tree then relation::text else 'tg_relid' end;
  shape_query text := hark.shape_query(case when cardinality(composites) = 1 then root
    else format('any (array[%s, %s]::oid[])', root, array_to_string(composites[2:], ', ')) end);
  shape bigint;
  branches text := '';
  operation text;
  statements text[];
  facts text := case when tree then null
    else '''schema'', hark.of_schema, ''table'', hark.of_table, ''action'', hark.operation, ''metadata'', hark.metadata' end;
  executed text := format(E'      execute hark.statement using %s, hark.head, hark.headers;\\n      get diagnostics hark.made = row_count;',
    case when d ->> 'mode' = 'statement' then 'null::text, null::text' else 'old, new' end);
begin
  execute replace(shape_query, 'tg_relid', relation::text) into shape;
  foreach operation in array array['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE'] loop
    if d -> 'operations' ? lower(operation) then
      branches := branches || format(E'  elsif tg_op = %L then\\n', operation);
      statements := hark.watch_statements(relation, d, operation, old, new, 'hark.head', 'hark.headers', facts);
      branches := branches || '    ' || array_to_string(statements, E';\\n    hark.wrote := hark.wrote or found;\\n    ')
        || E';\\n    hark.wrote := hark.wrote or found;\\n';
      -- Where no key has changed and old rows are not asked for, new rows need not be joined to them.
      if by_statement and operation = 'UPDATE' and cardinality(statements) = 2 and d ->> 'payload' = any (array['key', 'new'])
        and jsonb_typeof(d -> 'condition') = 'null' and jsonb_typeof(d -> 'if_changed') = 'null'
      then
        branches := replace(branches, E'hark.wrote := hark.wrote or found;\\n    ' || statements[2] || ';', format(
          E'hark.wrote := hark.wrote or found;\\n    if found then\\n      %s;\\n    else\\n      %s;\\n    end if;', statements[2],
          (hark.watch_statements(relation, d || '{"operations": ["insert"]}', 'INSERT', old, new, 'hark.head', 'hark.headers', facts))[1]));
      end if;
    end if;
  end loop;
  return format($body$
-- Made by hark.watch; it is replaced when that is called again.
#variable_conflict use_column
<<hark>>
declare
  -- Under names that no column takes for its own.
  of_schema text := tg_table_schema;
  of_table text := tg_table_name;
  operation text := tg_op;
  metadata jsonb;
  head jsonb;
  headers jsonb;
  wrote boolean := false;
  statement text;
  made bigint;
begin
  if to_regclass('hark.published') is null then
    raise warning 'Hark is not installed in this database: changes of %% are not published', tg_relid::regclass;
    return %1$s;
  end if;%2$s%15$s
  metadata := jsonb_build_object(
    'user', session_user, 'role', coalesce(nullif(current_setting('role'), 'none'), session_user),
    'application', current_setting('application_name'), 'session', pg_backend_pid(),
    'transaction', pg_current_xact_id()::text);
  head := jsonb_build_object('schema', %3$s, 'table', %4$s, 'action', tg_op, 'metadata', hark.metadata)%5$s;
  headers := hark.with_context(%6$L);
  if (%7$s) is distinct from %8$s then
    -- The table's columns are no longer those that the statements below were made for: make them now.
    for hark.statement in select s.s from unnest(hark.watch_statements(
      hark.watched_root(tg_relid, (select t.tgfoid from pg_trigger t where t.tgrelid = tg_relid and t.tgname = tg_name)),
      %9$L, tg_op, %10$L, %11$L, '$3', '$4')) s (s)
    loop
%12$s
      hark.wrote := hark.wrote or hark.made > 0;
    end loop;
%13$s  end if;
  if hark.wrote then
    perform hark.wake(%14$L);
  end if;
  return %1$s;
end
$body$,
    case when d ->> 'mode' = 'instead' then 'case when tg_op = ''DELETE'' then old else new end' else 'null' end,
    case when d ->> 'mode' = 'instead' then $instead$
  if not exists (
    select from pg_trigger t where t.tgrelid = tg_relid and t.tgname < tg_name and t.tgtype & 64 <> 0
      and t.tgtype & case tg_op when 'INSERT' then 4 when 'DELETE' then 8 else 16 end <> 0 and t.tgenabled <> 'D'
  ) then
    raise exception 'view % has no INSTEAD OF trigger of its own for % any more', tg_relid::regclass, tg_op
      using hint = 'Give it one, or stop watching it: select hark.unwatch(…).';
  end if;$instead$ else '' end,
    case when tree then quote_literal(d ->> 'schema') else 'tg_table_schema' end,
    case when tree then quote_literal(d ->> 'table') else 'tg_table_name' end,
    case when tree then format(E'\\n    || case when tg_relid = %s then ''{}''::jsonb else jsonb_build_object(''partition'', tg_table_name) end', relation) else '' end,
    nullif(d -> 'headers', 'null'),
    shape_query, coalesce(shape::text, 'null'),
    d, replace(old, '(old)', '($1)'), replace(new, '(new)', '($2)'),
    case when jsonb_typeof(d -> 'condition') = 'null' then executed
      -- What the condition names may be gone: rather publish too much than fail the write.
      else format($guarded$      begin
%s
      exception when undefined_column or undefined_table or undefined_function or undefined_object or datatype_mismatch then
        raise warning 'the condition of the watch "%s" cannot be used any more (%%), and is left out', sqlerrm
          using hint = 'Everything is published until the table is watched with another condition.';
        hark.statement := replace(hark.statement, %L, '(true)');
%s
      end;$guarded$, executed, replace(replace(d ->> 'name', '''', ''''''), '%', '%%'),
        '(' || (d ->> 'condition') || E'\\n)', executed) end,
    branches, d ->> 'channel',
    -- Such as the triggers for UPDATE of an INSERT … ON CONFLICT: no transaction number is taken for nothing.
    case when by_statement then $empty$
  if tg_op = 'DELETE' then
    if not exists (select from hark_old) then
      return null;
    end if;
  elsif tg_op <> 'TRUNCATE' then
    if not exists (select from hark_new) then
      return null;
    end if;
  end if;$empty$ else '' end);
end
$$;

revoke execute on all functions in schema hark from public;
`,
  },
  {
    version: 19,
    name: "drift",
    sql: `-- Hark 019: which watch is of which table, its triggers, and what is not as it should be (drift).

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (19, 'drift');

-- Which watch of which table. The link is the trigger function, which goes along when table or schema are renamed;
-- where its triggers are gone, the table's name counts. Rows that say another owner than the table's are nobody's.
create function hark.known_watches() returns table (relation oid, function oid, watch hark.watches)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select c.oid, p.oid, w
  from hark.watches w
  left join pg_namespace fn on fn.nspname = w.function_schema
  -- Of a schema that has another name now: the function's own name is nobody else's.
  left join pg_proc p on p.proname = w.function_name and p.pronargs = 0
    and (p.pronamespace = fn.oid or fn.oid is null and pg_get_userbyid(p.proowner) = w.owner)
  left join lateral (
    select hark.watched_root(t.tgrelid, t.tgfoid) as root from pg_trigger t where t.tgfoid = p.oid limit 1
  ) t on true
  left join pg_namespace n on n.nspname = w.table_schema
  left join pg_class c on c.oid = coalesce(t.root, (
      select k.oid from pg_class k where k.relnamespace = n.oid and k.relname = w.table_name
    )) and pg_get_userbyid(c.relowner) = w.owner
$$;

-- The triggers that a watch needs: on which table, its name, its statement, and what pg_trigger then says of it.
create function hark.watch_triggers(relation oid, definition jsonb, function text)
returns table (on_relation oid, trigger_name text, statement text, type smallint)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  d jsonb := definition;
  mode text := d ->> 'mode';
  prefix text := case when d ->> 'mode' = 'instead' then '~hark_' else '00_hark_' end || (d ->> 'name') || '_';
  kind "char" := (select c.relkind from pg_class c where c.oid = $1);
  operation text;
  of_rows oid[];
  on_table oid;
  transitions text;
begin
  -- Triggers of one event fire in the order of their names: before all others, or on a view after them.
  if mode <> 'instead' and exists (
    select from pg_trigger t where t.tgrelid = any (hark.tree_of($1)) and not t.tgisinternal and t.tgname < '00_hark_'
      and not hark.is_watch_function(t.tgfoid)
  ) then
    prefix := '  hark_' || (d ->> 'name') || '_';
  end if;
  foreach operation in array array['insert', 'update', 'delete', 'truncate'] loop
    continue when not d -> 'operations' ? operation;
    -- Triggers for rows of a partitioned table are cloned to its partitions; those of inherited tables are not.
    of_rows := case when mode = 'row' and kind = 'r' or operation = 'truncate' then hark.tree_of($1) else array[$1] end;
    foreach on_table in array of_rows loop
      trigger_name := prefix || operation;
      on_relation := on_table;
      select c.relkind into kind from pg_class c where c.oid = on_table;
      if operation = 'truncate' then
        continue when kind = 'v' or kind = 'f' and current_setting('server_version_num')::integer < 160000;
        statement := 'after truncate on %s for each statement';
        type := 32;
      elsif mode = 'statement' then
        transitions := case operation when 'insert' then 'new table as hark_new' when 'delete' then 'old table as hark_old'
          else 'old table as hark_old new table as hark_new' end;
        statement := 'after ' || operation || ' on %s referencing ' || transitions || ' for each statement';
        type := case operation when 'insert' then 4 when 'delete' then 8 else 16 end;
      else
        continue when mode = 'instead' and not exists (
          select from pg_trigger t
          where t.tgrelid = on_table and t.tgtype & 64 <> 0 and not hark.is_watch_function(t.tgfoid)
            and t.tgtype & case operation when 'insert' then 4 when 'delete' then 8 else 16 end <> 0
        );
        statement := case mode when 'instead' then 'instead of ' else 'after ' end || operation || ' on %s for each row';
        type := 1 + case operation when 'insert' then 4 when 'delete' then 8 else 16 end + case mode when 'instead' then 64 else 0 end;
      end if;
      statement := format('create or replace trigger %I ' || statement || ' execute function %s()', trigger_name,
        on_table::regclass, function);
      if (d ->> 'replicated')::boolean then
        statement := statement || format(E';\\nalter table %s enable always trigger %I', on_table::regclass, trigger_name);
      end if;
      return next;
    end loop;
    select c.relkind into kind from pg_class c where c.oid = $1;
  end loop;
end
$$;

-- What is not as it should be: of the triggers and their function. Nothing: all is well.
create function hark.drift_of(relation oid, function oid, definition jsonb) returns text[]
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  d jsonb := definition;
  found_drift text[] := '{}';
  f record;
  now_mode record;
  t record;
  other record;
  gone text;
  kind "char" := (select c.relkind from pg_class c where c.oid = relation);
  again constant text := '; repair it (hark.rewatch, hark watch repair)';
begin
  if relation is null then
    return array['the table is gone'];
  end if;
  select p.prosrc, p.proowner, p.proname, n.nspname, p.prosecdef, p.proconfig into f from pg_proc p join pg_namespace n on n.oid = p.pronamespace
  where p.oid = function;
  if not found then
    return array['the trigger function is gone' || again];
  end if;
  if f.proowner <> (select c.relowner from pg_class c where c.oid = relation) then
    found_drift := found_drift || ('the trigger function belongs to another role than the table' || again);
  end if;
  if not has_schema_privilege(f.proowner, 'hark'::regnamespace, 'usage')
    or not has_table_privilege(f.proowner, 'hark.published'::regclass, 'insert')
    or not has_function_privilege(f.proowner, 'hark.wake(text)'::regprocedure, 'execute')
  then
    found_drift := found_drift || format('role "%s", which owns the table, may not publish: writes fail; select hark.grant_publish(%L)',
      pg_get_userbyid(f.proowner), pg_get_userbyid(f.proowner));
  end if;
  if f.prosrc <> hark.watch_body(relation, d) then
    found_drift := found_drift || case
      when d -> 'columns' <> (select coalesce(jsonb_object_agg(a.attnum, a.attname), '{}') from pg_attribute a
        where a.attrelid = relation and a.attnum > 0 and not a.attisdropped)
      then 'its columns have changed: changes are published by a slower way' || again
      else 'its columns or keys have changed, or it was made by another version of Hark' || again end;
  end if;
  if not f.prosecdef or f.proconfig is null then
    found_drift := found_drift || ('the trigger function was altered' || again);
  end if;
  for t in
    select l.what, n.name from (values ('key'), ('include'), ('exclude'), ('if_changed')) l (what)
    cross join lateral jsonb_array_elements_text(case when jsonb_typeof(d -> l.what) = 'array' then d -> l.what else '[]' end) n (name)
    where n.name <> '*' and hark.listed(relation, d, array[n.name]) = '{}'
  loop
    found_drift := found_drift || format('column %I, which %s names, is gone%s', t.name, t.what, again);
  end loop;
  select string_agg(quote_ident(c.value), ', ' order by c.value) into gone
  from jsonb_each_text(d -> 'columns') c
  where d ->> 'condition' ~ ('(^|[^[:alnum:]_])' || regexp_replace(c.value, '([^[:alnum:]_])', '\\\\\\1', 'g') || '($|[^[:alnum:]_])')
    and not exists (select from pg_attribute a where a.attrelid = relation and a.attname = c.value and a.attnum > 0 and not a.attisdropped);
  if gone is not null then
    found_drift := found_drift || format('its condition names %s, which is gone or has another name: everything is published; watch the table with another condition', gone);
  end if;
  for t in
    select g.tgname, g.tgrelid::regclass as on_relation, g.tgenabled from pg_trigger g
    where g.tgfoid = function and (g.tgparentid <> 0 and g.tgenabled = 'D' or g.tgrelid <> all (hark.tree_of(relation)))
    order by 2
  loop
    found_drift := found_drift || case when t.tgenabled = 'D'
      then format('trigger %I on %s is disabled', t.tgname, t.on_relation)
      else format('trigger %I is left on %s, which is no part of the table any more', t.tgname, t.on_relation) end;
  end loop;
  select * into now_mode from hark.watch_mode(relation, (d ->> 'replicated')::boolean);
  if d ->> 'level' = 'auto' and now_mode.mode = 'row' and d ->> 'mode' = 'statement' then
    found_drift := found_drift || (now_mode.reason || again);
  end if;
  for t in
    select n.on_relation, n.trigger_name, n.type, g.tgenabled, g.tgtype
    from hark.watch_triggers(relation, d, format('%I.%I', f.nspname, f.proname)) n
    left join pg_trigger g on g.tgrelid = n.on_relation and g.tgname = n.trigger_name and g.tgfoid = function
  loop
    if t.tgtype is null and exists (
      select from pg_trigger g where g.tgrelid = t.on_relation and g.tgfoid = function and g.tgtype = t.type
    ) then
      found_drift := found_drift || format('the trigger on %s has to be named %I, as triggers fire in the order of their names%s',
        t.on_relation::regclass, t.trigger_name, again);
    elsif t.tgtype is null or t.tgtype <> t.type then
      found_drift := found_drift || format('trigger %I on %s is missing%s', t.trigger_name, t.on_relation::regclass, again);
    elsif t.tgenabled = 'D' then
      found_drift := found_drift || format('trigger %I on %s is disabled', t.trigger_name, t.on_relation::regclass);
    elsif t.tgenabled <> (case when (d ->> 'replicated')::boolean then 'A' else 'O' end) then
      found_drift := found_drift || format('trigger %I on %s fires in another replication role%s', t.trigger_name,
        t.on_relation::regclass, again);
    end if;
    -- A partition may have triggers of its own beside those that it has from the table above.
    select o.tgrelid, o.tgname into other from pg_trigger o
    where o.tgrelid = any (case kind when 'p' then hark.tree_of(relation) else array[t.on_relation] end)
      and t.type & 1 = 1 and not o.tgisinternal and not hark.is_watch_function(o.tgfoid)
      and case when t.type & 64 = 0 then o.tgname < t.trigger_name and o.tgtype & 66 = 0
        else o.tgname > t.trigger_name and o.tgtype & 64 <> 0 and o.tgtype & t.type & 28 <> 0 end
    order by o.tgname limit 1;
    if found then
      found_drift := found_drift || format('trigger %I of %s fires %s %I%s', other.tgname, other.tgrelid::regclass,
        case when t.type & 64 = 0 then 'before' else 'after' end, t.trigger_name, again);
    end if;
  end loop;
  return found_drift;
end
$$;

revoke execute on all functions in schema hark from public;
`,
  },
  {
    version: 20,
    name: "watch",
    sql: `-- Hark 020: hark.watch, hark.rewatch and hark.unwatch.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (20, 'watch');

-- The statements that install a watch, and those that remove what an earlier definition had and this has not.
create function hark.watch_script(relation oid, definition jsonb, schema_name text, function_name text) returns text[]
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  owner text := (select pg_get_userbyid(c.relowner) from pg_class c where c.oid = relation);
  function text := format('%I.%I', schema_name, function_name);
  body text := hark.watch_body(relation, definition);
  script text[];
  surplus text[];
begin
  script := array[
    format(E'create or replace function %s() returns trigger\\nlanguage plpgsql security definer set search_path = pg_catalog, pg_temp\\n'
      -- Values look the same whoever writes; old and new rows are joined by hashing, also where the first statement
      -- had one row and the plan is kept.
      'set timezone = ''UTC'' set datestyle = ''ISO, YMD'' set intervalstyle = postgres set extra_float_digits = 1\\n'
      'set bytea_output = hex set array_nulls = on set standard_conforming_strings = on\\n'
      'set enable_nestloop = off set enable_mergejoin = off set enable_material = off set jit = off\\n'
      'as %s', function,
      case when strpos(body, '$hark$') > 0 then quote_literal(body) else '$hark$' || body || '$hark$' end),
    format('alter function %s() owner to %I', function, owner),
    format('revoke execute on function %s() from public', function),
    format('comment on function %s() is %L', function,
      format('Publishes changes of %s on channel %s: see hark.watch.', relation::regclass, definition ->> 'channel'))
  ];
  script := script || array(select t.statement from hark.watch_triggers(relation, definition, function) t);
  -- What an earlier definition had, or the watch of that name of an earlier owner.
  surplus := array(
    select format('drop trigger %I on %s', g.tgname, g.tgrelid::regclass)
    from pg_trigger g join pg_proc p on p.oid = g.tgfoid join pg_namespace n on n.oid = p.pronamespace
    where g.tgrelid = any (hark.tree_of(relation)) and g.tgparentid = 0
      and (n.nspname = schema_name and p.proname = function_name
        or p.proname ~ '^hark_watch_' and p.proowner <> (select c.relowner from pg_class c where c.oid = relation)
          and regexp_replace(g.tgname::text, '_[a-z]+$', '') = any (array(
            select k.prefix || (definition ->> 'name') from unnest(array['00_hark_', '  hark_', '~hark_']) k (prefix))))
      and not exists (
        select from hark.watch_triggers(relation, definition, function) t
        where t.on_relation = g.tgrelid and t.trigger_name = g.tgname
      )
  );
  -- To drop a trigger takes the strongest lock: taken first, as who has a weaker one and waits for it can deadlock.
  return array(
    select format('lock table only %s in access exclusive mode', c.oid::regclass)
    from pg_class c where surplus <> '{}' and c.oid = any (hark.tree_of(relation)) and c.relkind in ('r', 'p')
    order by c.oid <> relation, c.oid
  ) || script || surplus;
end
$$;

create function hark.watch_function_name(relation oid, name text) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  -- 63 bytes at most, in any encoding.
  select 'hark_watch_' || regexp_replace(left(c.relname, 40), '[^a-z0-9_]', '_', 'g') || '_'
    || left(md5(c.oid || '/' || c.relowner || '/' || $2), 8)
  from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = $1
$$;

create function hark.watch(
  relation regclass, channel text default null, name text default 'watch',
  operations text[] default '{insert,update,delete,truncate}', include text[] default null, exclude text[] default null,
  key text[] default null, condition text default null, if_changed text[] default null, payload text default 'full',
  headers jsonb default null, max_bytes bigint default 16777216, replicated boolean default false,
  level text default 'auto', snapshot boolean default false
) returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  d jsonb;
  owner text;
  known record;
  schema_name text;
  made_name text;
  statement text;
  done text := 'created';
  is_new boolean := false;
begin
  d := hark.watch_definition(relation, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14);
  select pg_get_userbyid(c.relowner), n.nspname into owner, schema_name
  from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = relation;
  if not has_schema_privilege(owner, 'hark', 'usage') or not has_table_privilege(owner, 'hark.published', 'insert')
    or not has_function_privilege(owner, 'hark.wake(text)', 'execute')
  then
    raise exception 'role "%", which owns table %, may not publish', owner, relation
      using errcode = 'insufficient_privilege', hint = format('As the owner of the schema hark: select hark.grant_publish(%L).', owner);
  end if;
  perform hark.require_condition(relation, condition);
  perform pg_advisory_xact_lock(hashtextextended('hark.watch', relation::oid::bigint));
  select k.relation, k.function, (k.watch).* into known from hark.known_watches() k
  where k.relation = $1 and (k.watch).name = $3;
  if found then
    if known.definition = d and hark.drift_of(relation, known.function, d) = '{}'
      and (known.snapshot_wanted or not snapshot)
    then
      return 'unchanged';
    end if;
    done := 'replaced';
    made_name := known.function_name;
    schema_name := coalesce((select n.nspname from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      where p.oid = known.function), known.function_schema);
    update hark.watches w set function_schema = schema_name
    where w.function_schema = known.function_schema and w.function_name = made_name and w.owner = known.owner
      and w.function_schema <> schema_name;
    -- Without a trigger left, changes have been missed, or this is another table of that name: a snapshot begins anew.
    -- By another key the pages of one are others.
    is_new := not exists (select from pg_trigger t where t.tgfoid = known.function)
      or hark.key_columns(relation, d) <> hark.key_columns(relation, known.definition);
    snapshot := snapshot or known.snapshot_wanted;
  else
    made_name := hark.watch_function_name(relation, $3);
  end if;
  if not has_schema_privilege(owner, schema_name, 'create') then
    raise exception 'role "%", which owns table %, may not create a function in schema "%"', owner, relation, schema_name
      using errcode = 'insufficient_privilege', hint = format('grant create on schema %I to %I.', schema_name, owner);
  end if;
  -- What stands there under that name must be one of this table's owner's.
  if made_name !~ '^hark_watch_' or exists (
    select from pg_proc p where p.proname = made_name and p.pronamespace = to_regnamespace(quote_ident(schema_name))
      and (pg_get_userbyid(p.proowner) <> owner or p.prorettype <> 'trigger'::regtype)
  ) then
    raise exception 'function %.% is there already, and is not of the owner of table %', schema_name, made_name, relation
      using errcode = 'HK006', hint = 'Drop or rename it.';
  end if;
  foreach statement in array hark.watch_script(relation, d, schema_name, made_name) loop
    execute statement;
  end loop;
  insert into hark.watches as w (function_schema, function_name, table_schema, table_name, name, owner, definition, snapshot_wanted)
  values (schema_name, made_name, d ->> 'schema', d ->> 'table', $3, owner, d, snapshot)
  on conflict on constraint watches_pkey do update set
    table_schema = excluded.table_schema, table_name = excluded.table_name, definition = excluded.definition,
    snapshot_wanted = excluded.snapshot_wanted,
    snapshot_after = case when is_new then null else w.snapshot_after end,
    snapshot_count = case when is_new then 0 else w.snapshot_count end,
    snapshot_done_at = case when is_new then null else w.snapshot_done_at end,
    created_at = case when is_new then clock_timestamp() else w.created_at end;
  if snapshot then
    -- Also where it is under way: the rest is published as it is now to be.
    perform hark.prepare_snapshot(relation, $3);
  end if;
  return done;
end
$$;
comment on function hark.watch(regclass, text, text, text[], text[], text[], text[], text, text[], text, jsonb, bigint, boolean, text, boolean) is
  'Publishes the changes of a table, whoever writes. Run it as the owner of the table; it locks the table for a moment.';

-- Makes the triggers of a watch anew as it was told, after its table has changed: with its own channel, and the names
-- that its columns have now.
create function hark.rewatch(relation regclass, name text default 'watch') returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  d jsonb;
  lists jsonb := '{}';
  list text;
begin
  select (k.watch).definition into d from hark.known_watches() k where k.relation = $1 and (k.watch).name = $2;
  if not found then
    raise exception 'table % has no watch "%"', relation, name
      using errcode = 'HK006', hint = 'Watch it: select hark.watch(…).';
  end if;
  foreach list in array array['include', 'exclude', 'key', 'if_changed'] loop
    if jsonb_typeof(d -> list) = 'array' then
      lists := lists || jsonb_build_object(list, case when d -> list = '["*"]' then d -> list else (
        select jsonb_agg(a.attname order by l.place)
        from unnest(hark.listed(relation, d, array(select jsonb_array_elements_text(d -> list)), list = 'exclude'))
          with ordinality l (attnum, place)
        join pg_attribute a on a.attrelid = relation and a.attnum = l.attnum
      ) end);
      -- Rather nothing than what was to be left out, or other rows than those that were asked for.
      if coalesce(jsonb_array_length(nullif(lists -> list, 'null')), 0) < jsonb_array_length(d -> list) then
        raise exception 'the watch "%" of table % names columns under % that are gone: %', name, relation, list, d -> list
          using errcode = 'HK006', hint = 'Say anew what is to be watched: select hark.watch(…).';
      end if;
    end if;
  end loop;
  return hark.watch(relation, d ->> 'channel', name, array(select jsonb_array_elements_text(d -> 'operations')),
    (select array_agg(x.n) from jsonb_array_elements_text(lists -> 'include') x (n)),
    (select array_agg(x.n) from jsonb_array_elements_text(lists -> 'exclude') x (n)),
    (select array_agg(x.n) from jsonb_array_elements_text(lists -> 'key') x (n)), d ->> 'condition',
    (select array_agg(x.n) from jsonb_array_elements_text(lists -> 'if_changed') x (n)), d ->> 'payload',
    nullif(d -> 'headers', 'null'), (d ->> 'max_bytes')::bigint, (d ->> 'replicated')::boolean, d ->> 'level');
end
$$;
comment on function hark.rewatch(regclass, text) is
  'Repairs a watch after its table has changed (see drift in hark.watches()), keeping what it was told.';

-- What hark.watch would run, as a script for a migration tool.
create function hark.watch_sql(
  relation regclass, channel text default null, name text default 'watch',
  operations text[] default '{insert,update,delete,truncate}', include text[] default null, exclude text[] default null,
  key text[] default null, condition text default null, if_changed text[] default null, payload text default 'full',
  headers jsonb default null, max_bytes bigint default 16777216, replicated boolean default false,
  level text default 'auto'
) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  d jsonb := hark.watch_definition(relation, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14);
  schema_name text := (select n.nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = relation);
  owner text := (select pg_get_userbyid(c.relowner) from pg_class c where c.oid = relation);
  made_name text;
begin
  select (k.watch).function_schema, (k.watch).function_name into schema_name, made_name
  from hark.known_watches() k where k.relation = $1 and (k.watch).name = $3;
  if not found then
    select n.nspname into schema_name from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = $1;
    made_name := hark.watch_function_name(relation, $3);
  end if;
  -- The number of the table, in the definition and where partitions are, is another in another database: the trigger
  -- then makes its statements itself until the script is made anew there, or hark.watch is called.
  return format(E'begin;\\n\\n%s;\\n\\n%s;\\n\\ncommit;\\n',
    array_to_string(hark.watch_script(relation, d, schema_name, made_name), E';\\n\\n'),
    format(E'insert into hark.watches (function_schema, function_name, table_schema, table_name, name, owner, definition)\\n'
      'values (%L, %L, %L, %L, %L, %L, %L)\\non conflict on constraint watches_pkey do update set\\n'
      '  table_schema = excluded.table_schema, table_name = excluded.table_name, definition = excluded.definition',
      schema_name, made_name, d ->> 'schema', d ->> 'table', $3, owner, d));
end
$$;

-- Stops watching; false where that watch was not there. What was published stays.
create function hark.unwatch(relation regclass, name text default 'watch') returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  known record;
  t record;
begin
  select k.function, (k.watch).* into known from hark.known_watches() k
  where k.relation = $1 and (k.watch).name = $2;
  if not found then
    return false;
  end if;
  if not pg_has_role(known.owner, 'usage') then
    raise exception 'table % belongs to role "%"', relation, known.owner
      using errcode = 'insufficient_privilege', hint = 'Only its owner can end a watch.';
  end if;
  if known.function is not null and hark.is_watch_function(known.function)
    and exists (select from pg_proc p where p.oid = known.function and pg_get_userbyid(p.proowner) = known.owner)
  then
    for t in select g.tgname, g.tgrelid from pg_trigger g where g.tgfoid = known.function and g.tgparentid = 0 loop
      execute format('drop trigger %I on %s', t.tgname, t.tgrelid::regclass);
    end loop;
    execute format('drop function %s', known.function::regprocedure);
    perform hark.drop_snapshot_function(known.function_schema, known.function_name, known.owner);
  end if;
  delete from hark.watches w where w.function_schema = known.function_schema and w.function_name = known.function_name
    and w.owner = known.owner;
  return true;
end
$$;
comment on function hark.unwatch(regclass, text) is 'Stops publishing the changes of a table; false where that watch was not there.';

-- Forgets a watch whose table is gone, with what is left of its function.
create function hark.forget_watch(relation_name text, name text default 'watch') returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  known record;
begin
  select k.function, (k.watch).* into known from hark.known_watches() k
  where k.relation is null and format('%s.%s', (k.watch).table_schema, (k.watch).table_name) = $1 and (k.watch).name = $2;
  if not found then
    return false;
  end if;
  if known.function is not null and hark.is_watch_function(known.function)
    and exists (select from pg_proc p where p.oid = known.function and pg_get_userbyid(p.proowner) = known.owner)
    and not exists (select from pg_trigger g where g.tgfoid = known.function)
  then
    execute format('drop function %s', known.function::regprocedure);
    perform hark.drop_snapshot_function(known.function_schema, known.function_name, known.owner);
  end if;
  delete from hark.watches w where w.function_schema = known.function_schema and w.function_name = known.function_name
    and w.owner = known.owner;
  return true;
end
$$;

revoke execute on all functions in schema hark from public;
`,
  },
  {
    version: 21,
    name: "snapshot",
    sql: `-- Hark 021: what is watched, and publishing the rows that were there before.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (21, 'snapshot');

-- What is watched and whether it is as it should be.
create function hark.watches() returns table (
  relation regclass, relation_name text, name text, channel text, level text, reason text, operations text[],
  payload text, key text[], definition jsonb, drift text[], snapshot_wanted boolean, snapshot_count bigint,
  snapshot_done_at timestamptz, created_at timestamptz
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  k record;
begin
  for k in
    select w.relation, w.function, (w.watch).*, coalesce((
        select format('%s.%s', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.oid = w.relation
      ), format('%s.%s', (w.watch).table_schema, (w.watch).table_name)) as full_name
    from hark.known_watches() w order by full_name, (w.watch).name
  loop
    -- What an earlier owner of the table left is not told where it is watched anew.
    continue when k.relation is null and exists (
      select from hark.known_watches() o where (o.watch).name = k.name and (o.watch).table_schema = k.table_schema
        and (o.watch).table_name = k.table_name and o.relation is not null
    );
    relation := k.relation::regclass; relation_name := k.full_name; name := k.name;
    channel := k.definition ->> 'channel'; reason := k.definition ->> 'reason'; payload := k.definition ->> 'payload';
    level := case when k.definition ->> 'mode' = 'statement' then 'statement' else 'row' end;
    definition := k.definition; snapshot_wanted := k.snapshot_wanted; snapshot_count := k.snapshot_count;
    snapshot_done_at := k.snapshot_done_at; created_at := k.created_at;
    -- Owners of tables may write their rows of hark.watches: one that makes no sense is not to hide the others.
    begin
      operations := array(select jsonb_array_elements_text(k.definition -> 'operations'));
      key := array(select c.name from hark.watched_columns(k.relation, k.definition) c
        where c.key_place is not null order by c.key_place);
      drift := case
        when k.relation is null and exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
          where n.nspname = k.table_schema and c.relname = k.table_name)
        then array['the table belongs to another role now; watch it again, as that role']
        else hark.drift_of(k.relation, k.function, k.definition) end;
    exception when others then
      drift := array[format('its definition cannot be read: %s; watch the table again', sqlerrm)];
    end;
    return next;
  end loop;
end
$$;
comment on function hark.watches() is 'Which tables are watched, how, and what is not as it should be (drift).';

-- Whether the rows of a watched table have a key by which they can be read in pages: no column of it can be null.
create function hark.is_paged(relation oid, definition jsonb) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select hark.key_columns($1, $2) <> '{}' and not exists (
    select from pg_attribute a
    where a.attrelid = $1 and a.attnum = any (hark.key_columns($1, $2)) and (not a.attnotnull
      -- Types without an order.
      or hark.base_type(a.atttypid) = any (array['json', 'xml', 'point', 'line', 'lseg', 'box', 'path', 'polygon', 'circle',
        'xid', 'cid', 'txid_snapshot', 'pg_snapshot', 'aclitem']::regtype[]::oid[]))
  )
$$;

-- The text of the function that publishes a page of a table's rows, after the key in \`after\`. Its rows are locked
-- against change until the page is committed: who changes one of them later publishes later, and who changed one
-- before is waited for and has published. The end of a page is a key that was looked up before, as a row may have
-- another key once it has been waited for.
create function hark.snapshot_body(relation oid, definition jsonb) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  d jsonb := definition || '{"operations": ["insert"]}';
  paged boolean := hark.is_paged(relation, definition);
  -- Longer than the name of any column.
  page constant text := '/*' || repeat('page ', 13) || '*/';
  names text;
  texts text;
  of_after text;
  of_last text;
begin
  select string_agg(format('r.%I', c.name), ', ' order by c.key_place),
    string_agg(hark.output_of(format('r.%I', c.name), c.type), ', ' order by c.key_place),
    string_agg(format('($1 ->> %s)::%s', c.key_place - 1, format_type(c.type, -1)), ', ' order by c.key_place),
    string_agg(format('($2 ->> %s)::%s', c.key_place - 1, format_type(c.type, -1)), ', ' order by c.key_place)
  into names, texts, of_after, of_last
  from hark.watched_columns(relation, d) c where c.key_place is not null;
  return format($body$
-- Made by hark.watch.
declare
  head jsonb := jsonb_build_object('schema', %1$L, 'table', %2$L, 'action', 'SNAPSHOT', 'metadata', jsonb_build_object(
    'user', session_user, 'role', coalesce(nullif(current_setting('role'), 'none'), session_user),
    'application', current_setting('application_name'), 'session', pg_backend_pid(),
    'transaction', pg_current_xact_id()::text));
  condition text := 'true';
begin
  if %3$L then
    execute format('select jsonb_build_array(%%s) from %%s r where %%s order by %%s offset $2 limit 1', %4$L, %5$L,
      case when after is null then 'true' else %6$L end, %7$L) into last using after, batch - 1;
    condition := case when after is null then 'true' else %6$L end || case when last is null then '' else %8$L end;
  end if;
  execute replace(%9$L, %12$L, condition) using after, last, head, hark.with_context(%10$L);
  get diagnostics made = row_count;
  if made > 0 then
    perform hark.wake(%11$L);
  end if;
  return next;
end
$body$, d ->> 'schema', d ->> 'table', paged, texts, relation::regclass, format('(%s) > (%s)', names, of_after), names,
    format(' and (%s) <= (%s)', names, of_last),
    (hark.watch_statements(relation, d, 'INSERT', null,
      format('(select r.* from %s r where %s %s)', relation::regclass, page,
        case when paged then format('order by %s for share of r', names) else '' end), '$3', '$4'))[1],
    nullif(d -> 'headers', 'null'), d ->> 'channel', page);
end
$$;

create function hark.snapshot_function(function_schema text, function_name text) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$ select format('%I.%I', $1, regexp_replace($2, '^hark_watch_', 'hark_snapshot_')) $$;

create function hark.drop_snapshot_function(function_schema text, function_name text, owner text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  made regprocedure := to_regprocedure(hark.snapshot_function(function_schema, function_name) || '(jsonb, integer)');
begin
  if exists (select from pg_proc p where p.oid = made and pg_get_userbyid(p.proowner) = owner) then
    execute format('drop function %s', made);
  end if;
end
$$;

-- Runs the owner's function for a page, as that owner, and takes down how far it came.
create function hark.snapshot_page(watch hark.watches, batch integer, out made integer, out last jsonb)
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  function text := hark.snapshot_function((watch).function_schema, (watch).function_name);
begin
  -- Locks the function against change, so that it is still the owner's, and runs as the owner, when it is called.
  if current_user <> (watch).owner and to_regprocedure(function || '(jsonb, integer)') is not null then
    execute format('alter function %s(jsonb, integer) security definer', function);
  end if;
  if not exists (
    select from pg_proc p
    where p.oid = to_regprocedure(function || '(jsonb, integer)') and p.prosecdef
      and pg_get_userbyid(p.proowner) = (watch).owner
  ) then
    raise exception 'the function % that publishes the rows is gone', function
      using errcode = 'HK006', hint = 'Watch the table again, with snapshot.';
  end if;
  execute format('select s.made, s.last from %s($1, $2) s', function) into made, last using (watch).snapshot_after, batch;
  update hark.watches w set snapshot_after = coalesce(snapshot_page.last, w.snapshot_after),
    snapshot_count = w.snapshot_count + snapshot_page.made,
    snapshot_done_at = case when snapshot_page.last is null then clock_timestamp() end
  where w.function_schema = (watch).function_schema and w.function_name = (watch).function_name and w.owner = (watch).owner;
end
$$;

-- Makes a watch ready for its snapshot. The rows of a table without a key are published here, before any change of
-- them can be: the table is locked against writing by the triggers' coming.
create function hark.prepare_snapshot(relation regclass, name text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  w hark.watches;
  kind "char" := (select c.relkind from pg_class c where c.oid = relation);
  function text;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'the transaction is %', current_setting('transaction_isolation')
      using errcode = 'HK002', hint = 'Take a snapshot in READ COMMITTED: else rows that were written meanwhile are not seen.';
  end if;
  select (k.watch).* into w from hark.known_watches() k where k.relation = $1 and (k.watch).name = $2;
  if kind = any (array['v', 'f']::"char"[]) then
    raise exception '%s % cannot have a snapshot: its rows cannot be locked', case kind when 'v' then 'view' else 'foreign table' end, relation
      using errcode = 'HK006', hint = 'Watch it without one.';
  end if;
  if not hark.is_paged(relation, w.definition) and w.created_at < transaction_timestamp() and w.snapshot_done_at is null then
    raise exception 'table % has no key (of columns that are never null), and its changes are being published already', relation
      using errcode = 'HK006', hint = 'Rows without a key can be published only when its watch begins: end it with hark.unwatch, and watch it again with snapshot => true.';
  end if;
  function := hark.snapshot_function(w.function_schema, w.function_name);
  if not has_schema_privilege(w.owner, w.function_schema, 'create') then
    raise exception 'role "%", which owns table %, may not create a function in schema "%"', w.owner, relation, w.function_schema
      using errcode = 'insufficient_privilege', hint = format('grant create on schema %I to %I.', w.function_schema, w.owner);
  end if;
  if exists (select from pg_proc p where p.oid = to_regprocedure(function || '(jsonb, integer)') and pg_get_userbyid(p.proowner) <> w.owner) then
    raise exception 'function % is there already, and is not of the owner of table %', function, relation
      using errcode = 'HK006', hint = 'Drop or rename it.';
  end if;
  execute format(E'create or replace function %s(after jsonb, batch integer, out made integer, out last jsonb) returns setof record\\n'
    'language plpgsql volatile security definer rows 1 set search_path = pg_catalog, pg_temp\\n'
    'set timezone = ''UTC'' set datestyle = ''ISO, YMD'' set intervalstyle = postgres set extra_float_digits = 1\\n'
    'set bytea_output = hex set array_nulls = on set standard_conforming_strings = on set jit = off\\n'
    -- An owner who is bound by policies of the table would leave rows out: an error instead.
    'set row_security = off\\nas %L', function, hark.snapshot_body(relation, w.definition));
  execute format('alter function %s(jsonb, integer) owner to %I', function, w.owner);
  execute format('revoke execute on function %s(jsonb, integer) from public', function);
  if not hark.is_paged(relation, w.definition) and w.snapshot_done_at is null then
    execute format('lock table %s in share mode', relation);
    perform hark.snapshot_page(w, null);
  end if;
end
$$;

-- Publishes the next rows that a watched table had before: a page a call, each in a transaction of its own, until
-- done. A row that changes meanwhile may come both as what it is and by its change, in the right order.
create function hark.snapshot(relation regclass, name text default 'watch', batch integer default 1000)
returns table (published integer, total bigint, done boolean)
language plpgsql volatile rows 1 set search_path = pg_catalog, pg_temp
as $$
declare
  w hark.watches;
  before text := current_setting('lock_timeout');
  rows_now integer := batch;
begin
  if batch is null or batch not between 1 and 100000 then
    raise exception 'a batch is of % rows', coalesce(batch::text, 'null')
      using errcode = 'HK006', hint = 'Give 1 to 100000.';
  elsif current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'the transaction is %', current_setting('transaction_isolation')
      using errcode = 'HK002', hint = 'Take a snapshot in READ COMMITTED: rows that are being changed are waited for.';
  end if;
  select (k.watch).* into w from hark.known_watches() k where k.relation = $1 and (k.watch).name = $2;
  if not found then
    raise exception 'table % has no watch "%"', relation, name
      using errcode = 'HK006', hint = 'Watch it first: select hark.watch(…).';
  end if;
  select * into w from hark.watches k where k.function_schema = w.function_schema and k.function_name = w.function_name
    and k.owner = w.owner for update;
  if w.snapshot_wanted and w.snapshot_done_at is not null then
    return query select 0, w.snapshot_count, true;
    return;
  end if;
  -- Also where table or columns have changed since.
  if not w.snapshot_wanted or (
    select p.prosrc from pg_proc p
    where p.oid = to_regprocedure(hark.snapshot_function(w.function_schema, w.function_name) || '(jsonb, integer)')
  ) is distinct from hark.snapshot_body(relation, w.definition)
  then
    update hark.watches k set snapshot_wanted = true where k.function_schema = w.function_schema
      and k.function_name = w.function_name and k.owner = w.owner;
    perform hark.prepare_snapshot(relation, name);
  end if;
  published := 0; total := w.snapshot_count; done := false;
  loop
    begin
      -- Gives up before a deadlock would be looked for, in which a writer of the application could be the one to fail.
      perform set_config('lock_timeout', '200', true);
      select p.made, p.last is null into published, done from hark.snapshot_page(w, rows_now) p;
      perform set_config('lock_timeout', before, true);
      exit;
    exception when lock_not_available or deadlock_detected then
      exit when rows_now = 1; -- somebody holds that row: nothing was published, the caller goes on
      rows_now := greatest(rows_now / 10, 1);
    end;
  end loop;
  total := total + published;
  return next;
end
$$;

-- Has the rows published anew, from the first.
create function hark.restart_snapshot(relation regclass, name text default 'watch') returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  w hark.watches;
begin
  select (k.watch).* into w from hark.known_watches() k where k.relation = $1 and (k.watch).name = $2;
  if not found then
    raise exception 'table % has no watch "%"', relation, name
      using errcode = 'HK006', hint = 'Watch it first: select hark.watch(…).';
  elsif not hark.is_paged(relation, w.definition) then
    raise exception 'table % has no key (of columns that are never null)', relation
      using errcode = 'HK006', hint = 'Its rows can be published only when its watch begins: end it, and watch it again with snapshot => true.';
  end if;
  update hark.watches k set snapshot_wanted = true, snapshot_after = null, snapshot_count = 0, snapshot_done_at = null
  where k.function_schema = w.function_schema and k.function_name = w.function_name and k.owner = w.owner;
  perform hark.prepare_snapshot(relation, name);
end
$$;

revoke execute on all functions in schema hark from public;
`,
  },
  {
    version: 22,
    name: "data_change",
    sql: `-- Hark 022: a trigger function for one's own CREATE TRIGGER, and rights.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (22, 'data_change');

-- For triggers that one writes oneself, AFTER … FOR EACH ROW; the channel is the argument, "schema.table" without one:
--   create trigger tell after insert or update or delete on users
--     for each row execute function hark.notify_data_change('users_changes');
-- The payload is that of hark.watch's "full". It runs with Hark's rights, so it calls nothing of a user's; hark.watch
-- publishes the rows of a statement at once and is several times cheaper.
create function hark.notify_data_change() returns trigger
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD' set intervalstyle = postgres set extra_float_digits = 1
set bytea_output = hex set array_nulls = on set standard_conforming_strings = on set jit = off
as $$
declare
  channel text := coalesce(tg_argv[0], left(format('%s.%s', tg_table_schema, tg_table_name), 200));
  head jsonb;
  before jsonb;
  after jsonb;
  key_column text;
  key text;
  is_simple boolean;
  definition jsonb;
  statement text;
begin
  if char_length(channel) not between 1 and 200 then
    raise exception 'trigger % gives hark.notify_data_change a channel of % characters', tg_name, char_length(channel)
      using errcode = 'HK006', hint = 'Make it again with a channel of 1 to 200 characters.';
  end if;
  head := jsonb_build_object('schema', tg_table_schema, 'table', tg_table_name, 'action', tg_op,
    'metadata', jsonb_build_object('user', session_user, 'role', coalesce(nullif(current_setting('role'), 'none'), session_user),
      'application', current_setting('application_name'), 'session', pg_backend_pid(),
      'transaction', pg_current_xact_id()::text));
  if tg_level = 'STATEMENT' then
    insert into hark.log (channel, payload, headers) values (channel, head || '{"id": null}', hark.with_context(null));
  else
    -- The common case: types of PostgreSQL's own, and a key of one column whose text is its value.
    select bool_and(a.atttypid < 16384 and a.atttypid <> all (array['json', '"char"', 'json[]', '"char"[]']::regtype[]::oid[])
        and a.attgenerated <> 'v'),
      (select max(k.attname::text) from pg_index i join pg_attribute k on k.attrelid = i.indrelid and k.attnum = i.indkey[0]
        where i.indrelid = tg_relid and i.indisprimary and i.indnkeyatts = 1
          and k.atttypid = any (array['int2', 'int4', 'int8', 'uuid', 'text', 'varchar']::regtype[]::oid[])
          and (k.attcollation = 0 or (select c.collisdeterministic from pg_collation c where c.oid = k.attcollation)))
    into is_simple, key_column
    from pg_attribute a where a.attrelid = tg_relid and a.attnum > 0 and not a.attisdropped;
    if is_simple and key_column is not null
      and coalesce(pg_column_size(old), 0) + coalesce(pg_column_size(new), 0) < 60000
      -- A null in an array is a bit, and those are compressed.
      and (coalesce(pg_column_size(old), 0) + coalesce(pg_column_size(new), 0) < 4000 or not exists (
        select from pg_attribute a join pg_type t on t.oid = a.atttypid
        where a.attrelid = tg_relid and a.attnum > 0 and not a.attisdropped and t.typcategory = 'A'))
    then
      before := case when tg_op <> 'INSERT' then to_jsonb(old) end;
      after := case when tg_op <> 'DELETE' then to_jsonb(new) end;
      key := coalesce(after, before) ->> key_column;
      is_simple := char_length(key) <= 1000 and (tg_op <> 'UPDATE' or before -> key_column = after -> key_column);
    else
      is_simple := false;
    end if;
    if is_simple then
      insert into hark.log (channel, key, payload, headers)
      values (channel, key, head || jsonb_build_object('id', coalesce(after, before) -> key_column)
        || case when before is null then '{}' else jsonb_build_object('old', before) end
        || case when after is null then '{}' else jsonb_build_object('new', after) end
        || case when tg_op <> 'UPDATE' then '{}' else jsonb_build_object('changed', (
            select coalesce(jsonb_agg(n.key), '[]') from jsonb_each(after) n where n.value is distinct from before -> n.key)) end,
        hark.with_context(null));
    else
      definition := jsonb_build_object('relation', tg_relid::text, 'columns', '{}'::jsonb, 'channel', channel,
        'operations', jsonb_build_array(lower(tg_op)), 'payload', 'full', 'max_bytes', 16777216, 'mode', 'row');
      foreach statement in array
        hark.watch_statements(tg_relid, definition, tg_op, '(select ($1).*)', '(select ($2).*)', '$3', '$4')
      loop
        execute statement using old, new, head, hark.with_context(null);
      end loop;
    end if;
  end if;
  perform hark.wake(channel);
  -- BEFORE and INSTEAD OF triggers go on with what they return: never in the way of the write.
  return case when tg_op = 'DELETE' then old else new end;
end
$$;
comment on function hark.notify_data_change() is
  'For CREATE TRIGGER … AFTER … FOR EACH ROW: publishes the change on the channel given as argument.';

create or replace function hark.grant_publish(role_name text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  perform hark.grant_functions(role_name, array[
    'version', 'notify', 'smart_notify', 'notify_many', 'notify_at', 'cancel_delayed', 'notify_once', 'notify_each',
    'set_context', 'notify_data_change', 'watch', 'rewatch', 'watch_sql', 'unwatch', 'forget_watch', 'watches', 'snapshot',
    'restart_snapshot',
    -- What those, and the triggers that they make, call with the rights of the table's owner.
    'wake', 'with_context', 'json_value', 'json_tried', 'base_type', 'is_plain', 'as_base', 'output_of', 'value_of', 'key_text',
    'differs', 'size_of', 'listed', 'key_columns', 'watched_columns', 'shape_query', 'composites_of', 'row_value', 'is_whole', 'described', 'columns_in', 'in_row',
    'id_value', 'key_value', 'is_wide', 'watch_statements', 'tree_of', 'is_watch_function', 'watch_mode',
    'require_watchable', 'require_columns', 'require_condition', 'watch_definition', 'watched_root', 'watch_body', 'known_watches',
    'watch_triggers', 'drift_of', 'watch_script', 'watch_function_name', 'is_paged', 'snapshot_body',
    'snapshot_function', 'drop_snapshot_function', 'snapshot_page', 'prepare_snapshot'
  ]);
  execute format('grant insert on hark.published to %I', role_name);
  execute format('grant select, insert, update, delete on hark.watches to %I', role_name);
end
$$;

revoke execute on all functions in schema hark from public;

-- Who had rights before has those that their programs need now.
select hark.grant_publish(r.rolname)
from pg_proc p cross join lateral aclexplode(p.proacl) a join pg_roles r on r.oid = a.grantee
where p.oid = 'hark.notify(text, jsonb, text, jsonb)'::regprocedure and a.grantee <> p.proowner;
`,
  },
  {
    version: 23,
    name: "page",
    sql: `-- Hark 023: reading several times as fast.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (23, 'page');

-- Bytes of a payload with its headers as text, where they must be known; null where that is over 256 MB.
create function hark.text_size(payload jsonb, headers jsonb) returns bigint
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  bytes bigint;
begin
  bytes := octet_length(payload::text)::bigint + coalesce(octet_length(headers::text), 0);
  return case when bytes <= 268435456 then bytes end;
exception when program_limit_exceeded then
  return null;
end
$$;

-- A page of the open window, as hark.window_read describes it (006), in one row of lists: to pass a row from function
-- to query and on to a driver takes longer, value by value, than to find it. JSON as it is written has no line breaks,
-- so they part \`payloads\` (an empty one cannot be read as text) and \`headers\` (an empty one: none). \`keys\` and
-- \`channels\` are arrays of JSON, \`times\` are microseconds since 1970, \`replays\` a 1 or 0 for each. What is the same for
-- all as a rule is null where it is: the channel \`usual\`, no key, no headers, replay, partition 0.
--
-- With \`fence\`, \`next\` is the position past a window that ends with this page and had rows in it: this transaction
-- takes a number after the window was opened, and ends before the next one is.
create function hark.page(
  p hark.position, channels text[], max_rows integer, max_bytes bigint, max_scanned integer,
  started pg_snapshot, filter jsonb default null, partitions integer default 1,
  held integer[] default null, usual text default null, fence boolean default false,
  out ids text, out channel_list text, out keys text, out payloads text, out header_list text, out times text,
  out replays text, out partition_list text, out "position" hark.position, out window_end boolean, out window_span bigint,
  out next hark.position
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
-- A page is a range of the primary key, whatever the statistics say of a table that grows this fast.
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  -- What each row is compared with is a variable, not a field of the position, which would be looked up for each.
  finished xid8[] := '{}';
  next_xid xid8 := pg_snapshot_xmax(p.seen);
  seen_nothing boolean := p.seen::text = '1:1:';
  after_id bigint := p.last_id;
  target pg_snapshot := p.target;
  target_max bigint := p.target_max;
  complete_through bigint;
  here uuid;
  -- Payloads of up to so many bytes, stored as they are, are taken at once; the list of them stays below a gigabyte.
  small constant integer := least(8000, 200000000 / greatest(max_rows, 1));
  at_once boolean := true;
  found bigint;
  taken bigint;
  whole boolean;
  last_id bigint;
begin
  select i.rebased_through, n.id into complete_through, here from hark.install i left join hark.incarnation n on true;
  if p.incarnation is distinct from here then
    raise exception 'the server has restarted after a crash since this window was opened'
      using errcode = 'HK004', hint = 'Load the stored position and open a new window.';
  end if;
  if cardinality(p.stragglers) > 0 then
    select coalesce(array_agg(t.xid), '{}') into finished
    from unnest(p.stragglers) t (xid) where pg_visible_in_snapshot(t.xid, target);
  end if;
  loop
    begin
      select max(k.id), count(*), string_agg(k.id::text, ','),
        json_object_agg(k.id, k.channel) filter (where k.channel is distinct from usual),
        case when count(k.key) > 0 then json_agg(k.key)::text end,
        string_agg(case when k.plain and at_once then k.payload::text else '' end, E'\\n'),
        case when count(k.headers) > 0 then
          string_agg(case when k.plain and at_once then coalesce(k.headers::text, '') else '' end, E'\\n') end,
        string_agg((date_part('epoch', k.created_at) * 1000000)::bigint::text, ','),
        case when not bool_and(k.is_replay) then string_agg(case when k.is_replay then '1' else '0' end, '') end,
        case when partitions > 1 then string_agg(hark.partition_of(k.key, k.id, partitions)::text, ',') end,
        at_once and coalesce(sum(k.stored) <= max_bytes and bool_and(k.plain), true)
      into last_id, found, ids, channel_list, keys, payloads, header_list, times, replays, partition_list, whole
      from (
        select s.id, s.channel, s.key, s.payload, s.headers, s.created_at,
          case when s.id <= complete_through then true else pg_visible_in_snapshot(s.xid, started) end as is_replay,
          100 + s.payload_size + coalesce(s.headers_size, 0) as stored,
          s.payload_size <= small and pg_column_compression(s.payload) is null
            and (s.headers is null or s.headers_size <= small and pg_column_compression(s.headers) is null) as plain
        from (
          -- The inner limit bounds the scan; without it the planner sorts the whole log.
          select l.xid, l.id, l.channel, l.key, l.payload, l.headers, l.created_at,
            pg_column_size(l.payload) as payload_size, pg_column_size(l.headers) as headers_size
          from hark.log l
          where l.id > after_id and l.id <= target_max
          order by l.id
          limit max_scanned
        ) s
        where case when s.id <= complete_through then seen_nothing
            else (s.xid >= next_xid or s.xid = any (finished)) and pg_visible_in_snapshot(s.xid, target)
          end
          and (channels is null or s.channel = any (channels))
          and (held is null or hark.partition_of(s.key, s.id, partitions) = any (held))
          and (filter is null or hark.matches(filter, s.key, s.payload, s.headers))
        order by s.id
        limit max_rows
      ) k;
      exit;
    exception when program_limit_exceeded then
      -- A number of ten bytes may be written in 130,000 digits. Once more, to find which rows there are.
      if not at_once then
        raise;
      end if;
      at_once := false;
    end;
  end loop;
  taken := found;
  while not whole loop
    begin
      -- Bytes as stored are at most those sent, as a rule, and known without fetching or unpacking anything: they bound
      -- what is unpacked to find the true size.
      select max(k.id), count(*), string_agg(k.id::text, ','),
        json_object_agg(k.id, k.channel) filter (where k.channel is distinct from usual),
        case when count(k.key) > 0 then json_agg(k.key)::text end,
        string_agg(case when k.bytes is not null then k.payload::text else '' end, E'\\n'),
        case when count(k.headers) > 0 then
          string_agg(case when k.bytes is not null then coalesce(k.headers::text, '') else '' end, E'\\n') end,
        string_agg((date_part('epoch', k.created_at) * 1000000)::bigint::text, ','),
        case when not bool_and(k.is_replay) then string_agg(case when k.is_replay then '1' else '0' end, '') end,
        case when partitions > 1 then string_agg(hark.partition_of(k.key, k.id, partitions)::text, ',') end
      into last_id, taken, ids, channel_list, keys, payloads, header_list, times, replays, partition_list
      from (
        select m.*
        from (
          select k.*,
            sum(100 + coalesce(pg_column_size(k.headers), 0) + coalesce(k.bytes, 0))
              over (order by k.id rows between unbounded preceding and 1 preceding) as bytes_before
          from (
            select k.*,
              case when not at_once then hark.text_size(k.payload, k.headers)
                when pg_column_size(k.payload) > 100000 then hark.readable_size(k.payload)
                when pg_column_compression(k.payload) is null then pg_column_size(k.payload)
                else octet_length(k.payload::text) end as bytes
            from (
              select l.*, coalesce(f.replay, '1') = '1' as is_replay,
                sum(100 + pg_column_size(l.payload) + coalesce(pg_column_size(l.headers), 0))
                  over (order by l.id rows between unbounded preceding and 1 preceding) as stored_before
              from unnest(string_to_array(ids, ',')::bigint[], string_to_array(replays, null)) f (id, replay)
              -- Row by row: the planner has no idea of how many there are.
              cross join lateral (select g.* from hark.log g where g.id = f.id offset 0) l
            ) k
            where coalesce(k.stored_before, 0) < max_bytes
            offset 0
          ) k
        ) m
        where coalesce(m.bytes_before, 0) < max_bytes
        order by m.id
      ) k;
      exit;
    exception when program_limit_exceeded then
      if not at_once then
        raise;
      end if;
      at_once := false;
    end;
  end loop;
  if taken < max_rows and taken = found and target_max - after_id <= max_scanned then
    last_id := target_max;
  elsif taken < max_rows and taken = found then
    select coalesce(
      (select l.id from hark.log l where l.id > after_id and l.id <= target_max
        order by l.id offset max_scanned - 1 limit 1),
      target_max) into last_id;
  end if;
  last_id := coalesce(last_id, after_id); -- all that was found is being removed
  "position" := row(p.seen, p.seen_max, p.floor, p.stragglers, p.lows, p.target, p.target_max, last_id, p.incarnation);
  window_end := last_id >= p.target_max;
  window_span := p.target_max - least(p.floor, p.last_id);
  if fence and window_end and taken > 0 and pg_current_xact_id_if_assigned() is null then
    if pg_current_xact_id() is not null then
      next := hark.window_advance("position");
    end if;
  end if;
end
$$;

-- As in 006, a row a notification: a page unpacked, for who reads with SQL.
create or replace function hark.window_read(
  p hark.position, channels text[], max_rows integer, max_bytes bigint, max_scanned integer,
  started pg_snapshot, filter jsonb default null, partitions integer default 1,
  held integer[] default null
) returns table (
  id bigint, channel text, key text, payload jsonb, headers jsonb, created_at timestamptz,
  is_replay boolean, partition integer, "position" hark.position, window_end boolean, window_span bigint
)
language plpgsql volatile security definer rows 500 set search_path = pg_catalog, pg_temp
as $$
declare
  g record;
begin
  select * into g from hark.page(p, channels, max_rows, max_bytes, max_scanned, started, filter, partitions, held);
  return query
  select i.id::bigint, g.channel_list::json ->> i.id, i.key, nullif(i.payload, '')::jsonb, nullif(i.headers, '')::jsonb,
    'epoch'::timestamptz + i.micros::bigint * interval '1 microsecond',
    coalesce(substr(g.replays, i.place::integer, 1), '1') = '1', coalesce(i.partition::integer, 0),
    null::hark.position, null::boolean, null::bigint
  from rows from (
    string_to_table(g.ids, ','), json_array_elements_text(g.keys::json),
    string_to_table(g.payloads, E'\\n'), string_to_table(g.header_list, E'\\n'), string_to_table(g.times, ','),
    string_to_table(g.partition_list, ',')
  ) with ordinality i (id, key, payload, headers, micros, partition, place);
  return query
  select null::bigint, null::text, null::text, null::jsonb, null::jsonb, null::timestamptz, null::boolean, null::integer,
    g."position", g.window_end, g.window_span;
end
$$;

revoke execute on all functions in schema hark from public;
`,
  },
  {
    version: 24,
    name: "steps",
    sql: `-- Hark 024: the steps of reading, fewer and cheaper.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (24, 'steps');

-- As in 002 and 009, in fewer steps: who is woken pays for each, about as much as for all of a plain SELECT.
create or replace function hark.window_open(p hark.position) returns hark.position
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
as $$
declare
  w hark.position := p;
begin
  if pg_is_in_recovery() or pg_current_xact_id_if_assigned() is not null
    or current_setting('transaction_isolation') <> 'read committed'
  then
    perform hark.require_fresh_snapshot();
  end if;
  if w.target is null then
    -- In this order: so no complete transaction has drawn an id above target_max.
    w.target := pg_current_snapshot();
    w.target_max := greatest(p.seen_max, coalesce(pg_sequence_last_value('hark.log_id_seq'), hark.drawn()));
    w.last_id := p.floor;
    if cardinality(p.stragglers) > 0 then
      select least(p.floor, min(t.low)) into w.last_id
      from unnest(p.stragglers, p.lows) t (xid, low)
      where pg_visible_in_snapshot(t.xid, w.target);
    end if;
  end if;
  -- After the snapshot: this may take a number.
  select i.id into w.incarnation from hark.incarnation i;
  if w.incarnation is null then
    w.incarnation := hark.incarnation();
  end if;
  if p.incarnation <> w.incarnation then
    raise exception 'the server has restarted after a crash since this position was reached'
      using errcode = 'HK004', hint = 'Load the stored position, or start again.';
  end if;
  return w;
end
$$;

create or replace function hark.window(
  consumer text, owner uuid, held integer[], epochs bigint[], p hark.position, alike hark.position default null
) returns table (
  "position" hark.position, channels text[], filter jsonb, partitions integer, bounded boolean, settled boolean
)
language plpgsql volatile security definer rows 1 set search_path = pg_catalog, pg_temp
-- To plan that takes longer than to do it.
set plan_cache_mode = force_generic_plan
as $$
declare
  c hark.consumers;
  served integer;
begin
  select (
      -- One by one: the planner has no idea of how many there are.
      select count(*) from unnest(held, epochs) h (partition, epoch)
      cross join lateral (
        select from hark.partitions s
        where s.consumer = $1 and s.partition = h.partition and s.epoch = h.epoch and s.owner = $2 limit 1
      ) s
    ), k.barrier, k.barrier_max, k.channels, k.filter, k.partitions
  into served, c.barrier, c.barrier_max, c.channels, c.filter, c.partitions
  from hark.consumers k where k.name = $1;
  if served is distinct from cardinality(held) then
    perform hark.raise_fenced($1, $3);
  end if;
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

-- As in 010, but whose the partitions are is looked up one by one: the planner compared each with each.
create or replace function hark.acknowledge(
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
  select count(*) into served
  from (select h.* from unnest(held, epochs) h (partition, epoch) order by h.partition) h
  cross join lateral (
    select from hark.partitions s
    where s.consumer = $1 and s.partition = h.partition and s.epoch = h.epoch and s.owner = $2 limit 1
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

create or replace function hark.window_advance(p hark.position) returns hark.position
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
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
  w.stragglers := '{}';
  w.lows := '{}';
  if p.target::text like '%:' then
    return w; -- nothing was running
  end if;
  select coalesce(array_agg(x.xid), '{}') into w.stragglers from pg_snapshot_xip(p.target) x (xid);
  if w.stragglers = p.stragglers and w.floor - (select min(t.low) from unnest(p.lows) t (low)) <= 1000 then
    w.lows := p.lows;
    return w; -- none is new, and none far behind
  end if;
  w.lows := hark.lows_of(w.stragglers, p.stragglers, p.lows, p.floor);
  if w.floor - (select min(t.low) from unnest(w.lows) t (low)) > 1000 then
    w.lows := hark.raise_lows(w.stragglers, w.lows);
  end if;
  return w;
end
$$;

-- As in 009, but a window from before a crash is refused: a fence taken after it does not keep the numbers that the
-- window has seen from being given out again.
create or replace function hark.pass(p hark.position) returns hark.position
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform hark.require_fresh_snapshot();
  if p.incarnation is distinct from hark.incarnation() then
    raise exception 'the server has restarted after a crash since this window was opened'
      using errcode = 'HK004', hint = 'Load the stored position and open a new window.';
  end if;
  if pg_current_xact_id() is null then
    return null;
  end if;
  return hark.window_advance(p);
end
$$;

revoke execute on all functions in schema hark from public;
`,
  },
  {
    version: 25,
    name: "waking",
    sql: `-- Hark 025: waking: NOTIFY only where somebody sleeps.
--
-- NOTIFY takes a lock that serialises every notifying commit of the cluster, through its flush. So a publisher
-- notifies only for a channel that somebody sleeps on: a row of hark.sleepers that has not expired. Who reads all
-- the time has none. To look for that row costs a quarter of a publish, so in front of the rows there is a gate, a
-- sequence whose value is a bit for each of 64 groups of channels: shut where nobody sleeps on one of the group.
--
-- A publisher may have looked before somebody slept and commit when the sleeper has looked too. So
--   1. a publisher has its transaction number and its lock on the log before it looks at the gate, whose value is
--      what it is at that moment, in any snapshot; and looks for the row in a later statement;
--   2. a sleeper opens the gate and commits its row, then asks hark.publishers who holds such a lock, and looks again
--      and again until the last of those has ended, and once more.
-- Who is not among them had either ended, and is found by the look after; or took its lock later, finds the gate
-- open, and sees the row. (By locks, which tell at once: a snapshot does not list a transaction whose number is its
-- xmax.) In REPEATABLE READ rows are seen as of old, so there an open gate is enough. Readers poll underneath it all.
--
-- The gate is no part of a transaction: it is opened before a row is there for others, and shut after it has gone.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (25, 'waking');

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

-- A program that was started before this only LISTENs: for a day it is woken as before. Then it polls.
insert into hark.sleepers (channel, sleeper, until)
select '', '00000000-0000-0000-0000-000000000000', clock_timestamp() + interval '1 day'
where exists (select from hark.workers);
select setval('hark.gate', -1) from hark.sleepers;

-- From here on this sleeper is woken for these channels (null: all) for so long, unless it does this again. Returns
-- whether that was so all the time already; where not, the caller goes on as the head of this file says. In a
-- transaction of its own, as only what has committed is seen. Who has gone without a word is cleared away: those
-- that have expired, or whose LISTEN session has ended.
create function hark.sleep(sleeper uuid, channels text[], session bigint, lasting_ms integer) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  names constant text[] := hark.as_set(coalesce(channels, array['']));
  bits constant bigint := hark.gate_bits(names);
  covered boolean;
begin
  delete from hark.sleepers s
  using (
    select x.channel, x.sleeper from hark.sleepers x
    where x.sleeper <> $1
      and (x.until <= clock_timestamp()
        or case when x.session is null then false else pg_try_advisory_xact_lock_shared(x.session) end)
    for update skip locked
  ) gone
  where s.channel = gone.channel and s.sleeper = gone.sleeper;
  perform from hark.sleepers s where s.sleeper = $1 order by s.channel for update;
  select count(*) = cardinality(names) into covered
  from hark.sleepers s where s.sleeper = $1 and s.until > clock_timestamp();
  if not covered or pg_sequence_last_value('hark.gate') & bits <> bits then
    covered := false;
    -- Until this has committed nobody shuts the gate, who would not know of it.
    perform hark.hold_gate();
    perform setval('hark.gate', pg_sequence_last_value('hark.gate') | bits);
  end if;
  insert into hark.sleepers (channel, sleeper, session, until)
  select n.name, $1, $3, clock_timestamp() + make_interval(secs => $4 / 1000.0)
  from unnest(names) n (name)
  on conflict on constraint sleepers_pkey do update set session = excluded.session, until = excluded.until;
  return covered;
end
$$;

-- The groups of channels, as the gate has them; '' is all.
create function hark.gate_bits(names text[]) returns bigint
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select case when '' = any (names) then -1::bigint
    else coalesce(bit_or(1::bigint << (hashtext(n.name collate "C") & 63)), 0) end
  from unnest(names) n (name)
$$;

create function hark.hold_gate() returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$ select pg_advisory_xact_lock(hashtextextended('hark.gate', 5237)) $$;

-- This sleeper is not to be woken any more. Then hark.shut_gate, once this has committed.
create function hark.rise(sleeper uuid) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  delete from hark.sleepers s where s.sleeper = $1;
end
$$;

-- Shuts the gate for groups of channels that have no row, also none that has expired: such a one may be about to be
-- renewed. Not in a transaction that has removed rows: it may roll back, and what this does stays.
create function hark.shut_gate() returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  bits bigint;
begin
  if pg_current_xact_id_if_assigned() is not null or current_setting('transaction_isolation') <> 'read committed' then
    return;
  end if;
  perform hark.hold_gate();
  select hark.gate_bits(coalesce(array_agg(s.channel), '{}')) into bits from hark.sleepers s;
  if bits <> pg_sequence_last_value('hark.gate') then
    perform setval('hark.gate', bits);
  end if;
end
$$;

-- Which transactions may have published and have not ended: those that hold a lock on the log like a writer's, or
-- those of \`among\` that are left. A transaction's own lock goes after all see that it has ended. PREPARE hands locks
-- over one partition of the lock table at a time, so that for a moment a transaction's own lock and the one on the
-- log seem to be two transactions': what has no process counts, unless it is of another database, and where a lock on
-- the log has nobody, everybody.
create function hark.publishers(among xid[] default null) returns xid[]
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  with locks as materialized (
    select l.locktype, l.virtualtransaction, l.transactionid, l.pid, l.mode,
      l.locktype = 'relation' and l.relation = 'hark.log'::regclass and l.mode <> 'AccessShareLock'
        and l.database = (select d.oid from pg_database d where d.datname = current_database()) as writes
    from pg_locks l where l.granted
  ),
  numbered as materialized (
    select x.transactionid, x.virtualtransaction, x.pid from locks x
    where x.locktype = 'transactionid' and x.mode = 'ExclusiveLock'
  )
  select coalesce(array_agg(n.transactionid), '{}')
  from numbered n
  where case when among is not null then n.transactionid = any (among)
    else (
        n.pid is null
        or exists (select from locks w where w.writes and w.virtualtransaction = n.virtualtransaction)
        or exists (select from locks w where w.writes and w.pid is null
          and not exists (select from numbered o where o.virtualtransaction = w.virtualtransaction))
      ) and not exists (
        select from pg_prepared_xacts x where x.transaction = n.transactionid and x.database <> current_database()
      )
    end
$$;

revoke execute on all functions in schema hark from public;
`,
  },
  {
    version: 26,
    name: "publishing",
    sql: `-- Hark 026: publishing that wakes who sleeps (025), and costs little more than its row.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (26, 'publishing');

-- Constraints of a table are parsed, planned and prepared anew by each insert: 10 of its 17 µs here. So the functions
-- that insert into the log check what they are given, in their plans, and refuse it by the constraints' names. What
-- comes from hark.delayed has been checked there. Where somebody is publishing right now they stay, at that price: an
-- upgrade waits for no publisher, and none for it.
do $$
begin
  lock table hark.log in access exclusive mode nowait;
  alter table hark.log
    drop constraint channel_is_1_to_200_characters,
    drop constraint key_is_at_most_1000_characters,
    drop constraint headers_are_an_object;
exception when lock_not_available then
  raise notice 'the log is in use, so it keeps constraints that publishing need not pay for';
end
$$;

-- For triggers of watched tables the view checks it (016), in their plans too.
create or replace view hark.published as
select l.channel, l.key, l.payload, l.headers from hark.log l
where char_length(l.channel) between 1 and 200
  and (l.key is null or char_length(l.key) <= 1000)
  and (l.headers is null or jsonb_typeof(l.headers) = 'object')
with local check option;

-- Refuses those of these notifications that are not valid.
create function hark.refuse_invalid(ids bigint[]) returns void
language plpgsql volatile
as $$
declare
  broken pg_catalog.text;
begin
  select case
      when pg_catalog.char_length(l.channel) operator(pg_catalog.<) 1
        or pg_catalog.char_length(l.channel) operator(pg_catalog.>) 200 then 'channel_is_1_to_200_characters'
      when pg_catalog.char_length(l.key) operator(pg_catalog.>) 1000 then 'key_is_at_most_1000_characters'
      when pg_catalog.jsonb_typeof(l.headers) operator(pg_catalog.<>) 'object' then 'headers_are_an_object'
    end
  into broken
  from hark.log l where l.id operator(pg_catalog.=) any ($1)
  order by 1 limit 1;
  if broken is not null then
    raise exception 'new row for relation "log" violates check constraint "%"', broken
      using errcode = 'check_violation', schema = 'hark', table = 'log', constraint = broken;
  end if;
end
$$;

-- Headers given to a publishing function, over those of the transaction's context (the parameter hark.context, an
-- object as JSON text).
create function hark.in_context(headers jsonb) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if coalesce(current_setting('hark.context', true), '') = '' then
    return headers;
  end if;
  return coalesce(hark.with_context(null), '{}') || coalesce(headers, '{}');
end
$$;

-- The hot path has no SET clause and qualifies everything: see 001. What it asks, it asks in RETURNING, and what is
-- rare is behind one variable: a statement of its own costs more, and so does each expression that is prepared.
create or replace function hark.notify(
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
  special boolean;
begin
  -- A statement of its own, before the insert: the number must be taken before the id is drawn.
  writer := pg_catalog.pg_current_xact_id();
  insert into hark.log (xid, channel, key, payload, headers, created_at)
  values (writer, $1, $3, coalesce($2, 'null'::pg_catalog.jsonb),
    case when pg_catalog.current_setting('hark.context', true) operator(pg_catalog.<>) ''
      then hark.in_context($4) else $4 end,
    pg_catalog.clock_timestamp())
  returning log.id,
    pg_catalog.char_length($1) operator(pg_catalog.<) 1
    or pg_catalog.char_length($1) operator(pg_catalog.>) 200
    or pg_catalog.char_length($3) operator(pg_catalog.>) 1000
    or pg_catalog.jsonb_typeof(log.headers) operator(pg_catalog.<>) 'object'
    or pg_catalog.pg_sequence_last_value('hark.gate'::pg_catalog.regclass)
      operator(pg_catalog.&) (1::pg_catalog.int8 operator(pg_catalog.<<)
        (pg_catalog.hashtext($1 collate pg_catalog."C") operator(pg_catalog.&) 63))
      operator(pg_catalog.<>) 0
  into drawn, special;
  if special then
    if pg_catalog.char_length($1) operator(pg_catalog.<) 1
      or pg_catalog.char_length($1) operator(pg_catalog.>) 200
      or pg_catalog.char_length($3) operator(pg_catalog.>) 1000
      or pg_catalog.jsonb_typeof($4) operator(pg_catalog.<>) 'object'
      or pg_catalog.current_setting('hark.context', true) operator(pg_catalog.<>) ''
    then
      perform hark.refuse_invalid(array[drawn]);
    end if;
    perform hark.wake_one($1);
  end if;
  return drawn;
end
$$;

-- Wakes who sleeps on a channel, for a transaction that has published on it in an earlier statement. By the clock of
-- the statement, not of the moment: a row that is renewed after the snapshot, so not seen as it is now, was valid
-- then. Two probes of the index: one for both costs twice as much where there are 100 rows. One channel at a time and
-- no FROM: what this costs is then the same for any, so that it is planned once and not by each call, which takes ten
-- times as long as to run it; and by the index, as the plan outlives the few rows it was made for.
create function hark.wake_one(channel text) returns void
language plpgsql volatile set enable_seqscan = off
as $$
begin
  perform pg_catalog.pg_notify('hark', $1)
  where (pg_catalog.current_setting('transaction_isolation') operator(pg_catalog.<>) 'read committed'
      or exists (select from hark.sleepers s
        where s.channel operator(pg_catalog.=) ($1 collate pg_catalog."C")
          and s.until operator(pg_catalog.>) pg_catalog.statement_timestamp())
      or exists (select from hark.sleepers s
        where s.channel operator(pg_catalog.=) ''
          and s.until operator(pg_catalog.>) pg_catalog.statement_timestamp()))
    and coalesce(pg_catalog.current_setting('hark.wake', true), '') operator(pg_catalog.<>) 'off'
    -- A full NOTIFY queue fails the commit, so near one the readers' polling has to do.
    and pg_catalog.pg_notification_queue_usage() operator(pg_catalog.<) 0.5;
end
$$;

create or replace function hark.wake(channel text) returns void
language plpgsql volatile security definer
as $$
begin
  if pg_catalog.pg_sequence_last_value('hark.gate'::pg_catalog.regclass)
    operator(pg_catalog.&) (1::pg_catalog.int8 operator(pg_catalog.<<)
      (pg_catalog.hashtext($1 collate pg_catalog."C") operator(pg_catalog.&) 63))
    operator(pg_catalog.<>) 0
  then
    perform hark.wake_one($1);
  end if;
end
$$;
comment on function hark.wake(text) is
  'Wakes who waits for a channel on which an earlier statement of this transaction has published, as triggers do.';

create function hark.wake_all(channels text[]) returns void
language plpgsql volatile
as $$
declare
  awaited pg_catalog.text;
begin
  foreach awaited in array coalesce($1, '{}') loop
    perform hark.wake(awaited);
  end loop;
end
$$;

create or replace function hark.notify_many(notifications json) returns setof bigint
language plpgsql volatile security definer
as $$
declare
  writer pg_catalog.xid8;
  drawn bigint[];
  channels pg_catalog.text[];
  refused boolean;
begin
  writer := pg_catalog.pg_current_xact_id();
  with published as (
    insert into hark.log (xid, channel, key, payload, headers, created_at)
    select writer, n.channel, n.key, coalesce(n.payload, 'null'::pg_catalog.jsonb),
      case when pg_catalog.current_setting('hark.context', true) operator(pg_catalog.<>) ''
        then hark.in_context(n.headers) else n.headers end,
      pg_catalog.clock_timestamp()
    from rows from (
      pg_catalog.json_to_recordset($1) as (
        channel pg_catalog.text, key pg_catalog.text, payload pg_catalog.jsonb, headers pg_catalog.jsonb
      )
    ) with ordinality as n (channel, key, payload, headers, place)
    order by n.place
    returning log.id, log.channel,
      pg_catalog.char_length(log.channel) operator(pg_catalog.<) 1
      or pg_catalog.char_length(log.channel) operator(pg_catalog.>) 200
      or pg_catalog.char_length(log.key) operator(pg_catalog.>) 1000
      or pg_catalog.jsonb_typeof(log.headers) operator(pg_catalog.<>) 'object' as invalid
  )
  select pg_catalog.array_agg(p.id order by p.id), pg_catalog.array_agg(distinct p.channel), pg_catalog.bool_or(p.invalid)
  into drawn, channels, refused
  from published p;
  if refused then
    perform hark.refuse_invalid(drawn);
  end if;
  perform hark.wake_all(channels);
  return query select d.id from pg_catalog.unnest(drawn) as d (id);
end
$$;

-- As in 013, with the context that holds now.
create or replace function hark.notify_at(
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
  values ($1, $3, coalesce($2, 'null'), hark.in_context($4), $5)
  returning number into made;
  perform hark.nudge('');
  return made;
end
$$;

-- As in 013, but it wakes who sleeps.
create or replace function hark.deliver_due(batch integer default 1000)
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
      perform hark.wake_all(channels);
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

revoke execute on all functions in schema hark from public;
`,
  },
  {
    version: 27,
    name: "leaves",
    sql: `-- Hark 027: the log in leaves, so that what is old goes whole.
--
-- The log is divided by ranges of ids. A leaf that is old, and that every consumer has passed, is emptied by TRUNCATE,
-- in a moment, whatever it holds. What PostgreSQL does of this waits for whom:
--   * An INSERT into the log locks the log and the leaf that it comes to. A statement that reads locks every leaf.
--   * TRUNCATE of a leaf waits for those that have written to that leaf or read now: never for a publisher elsewhere.
--   * DROP of a leaf waits for every publisher that is open, and all others wait behind it.
--   * ATTACH of a new leaf waits for no publisher, but one whose statement was begun before may fail for it.
-- So leaves are made well ahead, by whoever reads; what finds none comes to hark.log_rest, so that publishing never
-- fails for lack of one; leaves are made, and empty ones dropped, in a moment without a publisher, as there are many
-- where none stays open; and nothing here waits for long.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (27, 'leaves');

-- The leaves of the log, in order; that without bounds is hark.log_rest. None where the log is not divided yet.
create function hark.leaves() returns table (leaf oid, name text, lower bigint, upper bigint, bytes bigint)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select c.oid, c.relname::text,
    case when b.bound like '%FROM (MINVALUE)%' then 0 else substring(b.bound from 'FROM \\(''(-?\\d+)''\\)')::bigint end,
    substring(b.bound from 'TO \\(''(-?\\d+)''\\)')::bigint, pg_relation_size(c.oid)
  from pg_inherits i
  join pg_class c on c.oid = i.inhrelid
  cross join lateral (select pg_get_expr(c.relpartbound, c.oid)) b (bound)
  where i.inhparent = 'hark.log'::regclass
  order by 3 nulls last
$$;

-- Makes an undivided log the first leaf of a divided one: where nobody has it open, now. Whoever comes meanwhile waits
-- until its ids are looked through (a second a gigabyte). Rights to it stay; triggers, policies and publications of
-- somebody else's, and views of it, stay with what becomes the first leaf. Returns whether the log is divided.
create function hark.divide(tries integer default 20) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set client_min_messages = warning
as $$
declare
  last_id bigint;
  bound bigint;
  given record;
begin
  if (select c.relkind = 'p' from pg_class c where c.oid = 'hark.log'::regclass) then
    return true;
  end if;
  for tried in 1..$1 loop
    begin
      lock table hark.log in access exclusive mode nowait;
      exit;
    exception when lock_not_available then
      if tried = $1 then
        return false;
      end if;
    end;
    perform pg_sleep(0.02);
  end loop;
  -- Somebody else may have done it while this waited.
  if (select c.relkind = 'p' from pg_class c where c.oid = 'hark.log'::regclass) then
    return true;
  end if;
  last_id := hark.drawn();
  bound := (last_id + 100000) / 1000000 * 1000000 + 1000000;
  alter table hark.log
    drop constraint if exists channel_is_1_to_200_characters,
    drop constraint if exists key_is_at_most_1000_characters,
    drop constraint if exists headers_are_an_object;
  alter table hark.log rename to log_0;
  alter table hark.log_0 rename constraint log_pkey to log_0_pkey;
  alter table hark.log_0 alter column id drop identity;
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
  for given in
    select a.privilege_type, a.is_grantable, coalesce(quote_ident(r.rolname), 'public') as grantee, a.of_column
    from (
      select a.*, null::text as of_column from pg_class c cross join lateral aclexplode(c.relacl) a
      where c.oid = 'hark.log_0'::regclass and a.grantee <> c.relowner
      union all
      select a.*, t.attname::text from pg_attribute t cross join lateral aclexplode(t.attacl) a
      where t.attrelid = 'hark.log_0'::regclass
    ) a
    left join pg_roles r on r.oid = a.grantee
  loop
    execute format('grant %s %s on hark.log to %s %s', given.privilege_type,
      case when given.of_column is not null then format('(%I)', given.of_column) end, given.grantee,
      case when given.is_grantable then 'with grant option' end);
  end loop;
  if last_id > 0 then
    perform setval('hark.log_id_seq', last_id);
  end if;
  execute format('alter table hark.log attach partition hark.log_0 for values from (minvalue) to (%s)', bound);
  create table hark.log_rest partition of hark.log default;
  create or replace view hark.published as
  select l.channel, l.key, l.payload, l.headers from hark.log l
  where char_length(l.channel) between 1 and 200
    and (l.key is null or char_length(l.key) <= 1000)
    and (l.headers is null or jsonb_typeof(l.headers) = 'object')
  with local check option;
  perform hark.add_leaves();
  return true;
end
$$;

-- Where the next leaf begins, how many ids it takes, and how many are to have a leaf in advance. There are to be as
-- many leaves as there are parts of what is to be removed, and so few that reading, which locks each, does not notice:
-- so they become larger as there are more of them.
create function hark.next_leaf(out top bigint, out span bigint, out wanted bigint)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  least_span constant bigint := 1000000;
  largest_span constant bigint := 1000000000;
  filled integer;
begin
  select coalesce(max(f.upper), 0), count(*) filter (where f.bytes > 0 and f.upper is not null)
  into top, filled from hark.leaves() f;
  select f.upper - f.lower into span from hark.leaves() f where f.upper = top;
  span := coalesce(span, least_span); -- all of them may be gone
  span := greatest(least_span, least(largest_span,
    case when filled >= 12 then span * 2 when filled <= 8 then span / 2 else span end));
  wanted := greatest(span * 2, least_span * 4);
end
$$;

-- Adds leaves until there are enough.
create function hark.add_leaves() returns integer
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  made integer := 0;
  last_id bigint := hark.drawn();
  n record;
  top bigint;
begin
  select * into n from hark.next_leaf();
  top := n.top;
  while top - last_id < n.wanted loop
    -- What is drawn meanwhile comes to hark.log_rest, and so does what is drawn before the next leaf begins.
    if top <= last_id then
      top := (last_id + 100000) / 100000 * 100000 + 100000;
    end if;
    execute format('create table hark.log_%s (like hark.log including defaults)', top);
    execute format('alter table hark.log attach partition hark.log_%s for values from (%s) to (%s)', top, top, top + n.span);
    top := top + n.span;
    made := made + 1;
  end loop;
  return made;
end
$$;

-- Who holds a lock on a table: to write to it, or whatever it is. Prepared transactions too.
create function hark.holders_of(relations oid[], writing boolean) returns text[]
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(distinct l.virtualtransaction), '{}') from pg_locks l
  where l.locktype = 'relation' and l.granted and l.relation = any ($1) and (l.mode = 'RowExclusiveLock' or not $2)
    and l.database = (select d.oid from pg_database d where d.datname = current_database())
    and l.pid is distinct from pg_backend_pid()
$$;

-- Whether nobody who has the log open, to publish, to read, or to dump it, stays for as long as 50 ms: so that a lock
-- that they are in the way of is had at once, and nobody waits behind it for long.
create function hark.is_passable() returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  relations constant oid[] := array['hark.log'::regclass, 'hark.log_rest'::regclass];
  before constant text[] := hark.holders_of(relations, false);
begin
  if cardinality(before) = 0 then
    return true;
  end if;
  perform pg_sleep(0.05);
  return not before && hark.holders_of(relations, false);
end
$$;

-- What is done to leaves rests on what is there by now, not on what a transaction saw when it began.
create function hark.require_read_committed() returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'the log is not cleaned in a % transaction, which does not see what is registered meanwhile',
        upper(current_setting('transaction_isolation'))
      using errcode = 'HK002', hint = 'Use READ COMMITTED: for a role, alter role … set default_transaction_isolation = ''read committed''.';
  end if;
end
$$;

-- Makes room for what is published next, where there is less than enough: for whoever reads, or cleans, to call now and
-- then, in a transaction of its own, as its locks are in the way of others until that ends. Returns how many leaves it
-- made. Where somebody is in its own way it waits for 50 ms, and leaves it to the next time. What takes longer the more
-- there is (a second a gigabyte), it does only if it is told to be \`patient\`.
create function hark.extend(patient boolean default false) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '50ms'
as $$
declare
  quick constant bigint := 134217728;
  rest_bytes bigint;
  n record;
  first_id bigint;
  last_id bigint;
  lower_bound bigint;
  upper_bound bigint;
  renamed text;
begin
  if pg_is_in_recovery() then
    return 0;
  end if;
  perform hark.require_read_committed();
  if not (select c.relkind = 'p' from pg_class c where c.oid = 'hark.log'::regclass) then
    if not patient and pg_relation_size('hark.log') > quick then
      return 0;
    end if;
    return case when hark.divide(case when patient then 20 else 1 end) then 1 else 0 end;
  end if;
  select * into n from hark.next_leaf();
  if n.top - hark.drawn() >= n.wanted or not pg_try_advisory_xact_lock(hashtextextended('hark.extend', 5237)) then
    return 0;
  end if;
  -- A statement that was begun before knows the leaves of then: one that runs on until the next leaf's ids are drawn
  -- would bring them to the rest, and fail. So nobody publishes at this moment, and where somebody stays, no leaf is
  -- made: what he is in the way of comes to the rest.
  if not hark.is_passable() then
    return 0;
  end if;
  begin
    select f.bytes into rest_bytes from hark.leaves() f where f.upper is null;
    lock table hark.log_rest in access exclusive mode;
    if rest_bytes > 33554432 and (patient or rest_bytes <= quick) then
      -- ATTACH would look through it each time, so it becomes a leaf itself, where all of it fits between two others.
      lock table only hark.log in access exclusive mode;
      select min(l.id), max(l.id) into first_id, last_id from hark.log_rest l;
      select coalesce(max(f.upper), 0) into lower_bound from hark.leaves() f where f.upper <= first_id;
      select coalesce(min(f.lower), (hark.drawn() + 1000000) / 1000000 * 1000000) into upper_bound
      from hark.leaves() f where f.lower >= lower_bound;
      if last_id < upper_bound then
        renamed := 'log_' || lower_bound;
        alter table hark.log detach partition hark.log_rest;
        execute format('alter table hark.log_rest rename to %I', renamed);
        execute format('alter table hark.%I rename constraint log_rest_pkey to %I', renamed, renamed || '_pkey');
        execute format('alter table hark.log attach partition hark.%I for values from (%s) to (%s)',
          renamed, lower_bound, upper_bound);
        create table hark.log_rest partition of hark.log default;
      end if;
    else
      lock table only hark.log in share row exclusive mode;
    end if;
    return hark.add_leaves();
  exception when lock_not_available or check_violation or duplicate_table or invalid_object_definition then
    return 0;
  end;
end
$$;

revoke execute on all functions in schema hark from public;

do $$
begin
  if not hark.divide() then
    raise notice 'the log is in use, so it is not divided yet: hark cleanup does that, when it is not';
  end if;
end
$$;
`,
  },
  {
    version: 28,
    name: "retention",
    sql: `-- Hark 028: cleaning by leaves: what is old and passed goes whole.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (28, 'retention');

-- Empties one leaf of which all is older than that and passed by every consumer (or \`forced\`), and tells of what it
-- was: about so many notifications, so many bytes. No row: there is none, or somebody is in the way.
create function hark.empty_leaf(cutoff timestamptz, forced boolean default false)
returns table (leaf text, removed bigint, bytes bigint)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set lock_timeout = '50ms' set jit = off
as $$
declare
  f record;
  last_id bigint;
  first_id bigint;
  floor_of_all bigint;
  has_rows boolean;
begin
  perform hark.require_read_committed();
  perform hark.rebase();
  last_id := hark.drawn();
  for f in
    -- What lies in the rest is older than what lies in the leaf of the next id, where that has one.
    select v.leaf, v.name, v.bytes, coalesce(v.upper, o.lower) - 1 as through
    from hark.leaves() v
    left join hark.leaves() o on v.upper is null and o.lower <= last_id + 1 and o.upper > last_id + 1
    where v.bytes > 0 and coalesce(v.upper, o.lower) <= last_id
  loop
    continue when cardinality(hark.holders_of(array[f.leaf], true)) > 0 or hark.is_newer(f.name, cutoff, f.through);
    begin
      -- As in hark.clean: no position goes back meanwhile. Whoever has drawn an id of this leaf and has not come to
      -- lock it yet either began before every floor and low, which then are not above that id, or was registered for
      -- by nobody.
      lock table hark.consumers in share row exclusive mode;
      execute format('select min(l.id) from hark.%I l', f.name) into first_id;
      select min(least((p.position).floor, (select min(t.low) from unnest((p.position).lows) t (low))))
      into floor_of_all from hark.partitions p;
      if first_id is not null and not forced and floor_of_all < f.through
        or exists (select from hark.waiting w where w.id >= first_id and w.id <= f.through and w.channel is null)
        or exists (select from hark.replays r where r.next_id <= f.through and r.to_id >= first_id)
      then
        raise lock_not_available; -- and lets go of what it has locked
      end if;
      execute format('lock table hark.%I in access exclusive mode', f.name);
      -- Since the look somebody may have come, and gone.
      if hark.is_newer(f.name, cutoff, f.through) then
        raise lock_not_available;
      end if;
      execute format('select exists (select from hark.%I)', f.name) into has_rows;
      if not has_rows then
        -- All went one by one: only their space is there, and nothing to tell of.
        execute format('truncate hark.%I', f.name);
        continue;
      end if;
      -- Exactly where that takes no time.
      execute format(case when f.bytes < 8388608 then 'select count(*) from hark.%I'
        else 'select greatest(c.reltuples, 0)::bigint from pg_class c where c.relname = %1$L and c.relnamespace = ''hark''::regnamespace' end,
        f.name) into removed;
      if removed = 0 then
        removed := least(f.through - first_id + 1, f.bytes / 60);
      end if;
      bytes := pg_total_relation_size(f.leaf);
      execute format('truncate hark.%I', f.name);
      delete from hark.waymarks w
      where w.number > 0 and w.seen_max <= f.through and w.number < (select max(n.number) - 10 from hark.waymarks n);
      leaf := f.name;
      return next;
      return;
    exception when lock_not_available then
      null; -- the next one, then
    end;
  end loop;
end
$$;
comment on function hark.empty_leaf(timestamptz, boolean) is
  'Empties one leaf of the log that is wholly older than a time and passed by every consumer, whatever it holds.';

-- Whether a leaf has a notification that is not older than that, or one above an id. Ids and times run side by side,
-- but for the moment between a call's clock and its id.
create function hark.is_newer(leaf text, cutoff timestamptz, through bigint) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  newer boolean;
begin
  execute format('select coalesce(max(n.created_at) >= $1 or max(n.id) > $2, false)
    from (select l.created_at, l.id from hark.%I l order by l.id desc limit 1000) n', $1) into newer using $2, $3;
  return newer;
end
$$;

-- Whether more than so many of the oldest notifications are older than that.
create function hark.has_older(cutoff timestamptz, most integer) returns boolean
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  select count(*) > $2 from (select l.created_at from hark.log l order by l.id limit $2 + 1) l where l.created_at < $1
$$;

-- Drops leaves that are empty and whose ids are all drawn: where no publisher stays open, for whom all others would
-- wait behind this. In a transaction of its own. Returns how many.
create function hark.drop_leaves() returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '50ms'
as $$
declare
  f record;
  dropped integer := 0;
  has_rows boolean;
begin
  perform hark.require_read_committed();
  if not exists (select from hark.leaves() v where v.bytes = 0 and v.upper <= hark.drawn())
    or not hark.is_passable()
  then
    return 0;
  end if;
  lock table only hark.log in access exclusive mode;
  for f in select * from hark.leaves() v where v.bytes = 0 and v.upper <= hark.drawn() loop
    execute format('lock table hark.%I in access exclusive mode', f.name);
    execute format('select exists (select from hark.%I)', f.name) into has_rows;
    continue when has_rows;
    execute format('drop table hark.%I', f.name);
    dropped := dropped + 1;
  end loop;
  return dropped;
exception when lock_not_available then
  return 0;
end
$$;

-- What cleaning removes beside the log. Returns how many dedupe keys have expired and gone: fewer than a batch are all.
create function hark.tidy(batch integer default 10000) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
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
  return hark.forget_dedupe(batch);
end
$$;

-- As in 015, in the leaves only where the batch is.
create or replace function hark.clean(
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
  if not dry_run then
    perform hark.require_read_committed();
  end if;
  -- On a server this was restored to, what nobody has read would look read.
  perform hark.rebase();
  -- Waits for registrations, seeks and replays under way, and holds new ones back for this batch: see
  -- hark.register. Without it a position could go back behind what is being removed.
  lock table hark.consumers in share row exclusive mode;
  if not dry_run then
    perform hark.tidy(batch);
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
    delete from hark.log l using old o
    where l.id = o.id and l.id > after_id and l.id <= through and not dry_run
    returning hark.stored_bytes(l.channel, l.key, l.payload, l.headers) as size
  )
  select count(*), coalesce(sum(g.size), 0) into removed, bytes
  from (
    select g.size from gone g
    union all
    select hark.stored_bytes(l.channel, l.key, l.payload, l.headers)
    from old o join hark.log l on l.id = o.id and l.id > after_id and l.id <= through where dry_run
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

revoke execute on all functions in schema hark from public;
`,
  },
  {
    version: 29,
    name: "rights",
    sql: `-- Hark 029: what is delayed can be seen; who may call what.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (29, 'rights');

-- How many notifications wait for their time, counted up to \`most\`, and when the first is due: in the past where
-- nobody runs who would deliver it.
create function hark.delayed_status(most bigint default 100000) returns table (waiting bigint, next_at timestamptz)
language sql stable security definer rows 1 set search_path = pg_catalog, pg_temp
as $$
  select (select count(*) from (select from hark.delayed limit $1) d),
    (select d.deliver_at from hark.delayed d order by d.deliver_at, d.number limit 1)
$$;

create or replace function hark.grant_consume(role_name text) returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select hark.grant_functions(role_name, array[
    'version', 'rebase', 'waymark', 'timeline', 'start_position', 'window_open', 'window_read', 'page', 'window_advance',
    'channels_of', 'register', 'attend', 'claim', 'lost_owners', 'window', 'merged', 'is_behind', 'pass',
    'acknowledge', 'begin_handling', 'owner_key', 'finish', 'trying', 'release', 'leave', 'waiting_of',
    'waiting_rows', 'done_of', 'feed', 'deliver_due', 'nudge', 'status', 'partitions_of',
    'workers_of', 'heads_of', 'replays_of', 'holding', 'delayed_status', 'watches', 'sleep', 'rise', 'shut_gate', 'publishers', 'extend'
  ])
$$;

create or replace function hark.grant_operate(role_name text) returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select hark.grant_functions(role_name, array[
    'version', 'rebase', 'status', 'delayed_status', 'partitions_of', 'workers_of', 'heads_of', 'replays_of', 'holding', 'seek',
    'replay', 'pause', 'resume', 'dead_letters', 'retry_dead', 'discard_dead', 'repartition', 'remove_consumer',
    'drop_inactive', 'clean', 'watches', 'extend', 'empty_leaf', 'has_older', 'tidy', 'drop_leaves'
  ])
$$;

revoke execute on all functions in schema hark from public;

-- Who had rights before has those that their programs need now.
select hark.grant_consume(r.rolname)
from pg_proc p cross join lateral aclexplode(p.proacl) a join pg_roles r on r.oid = a.grantee
where p.oid = 'hark.waymark(bigint, interval)'::regprocedure and a.grantee <> p.proowner;
select hark.grant_operate(r.rolname)
from pg_proc p cross join lateral aclexplode(p.proacl) a join pg_roles r on r.oid = a.grantee
where p.proname = 'repartition' and p.pronamespace = 'hark'::regnamespace and a.grantee <> p.proowner;
`,
  },
];
