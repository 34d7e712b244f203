-- Hark 002: reading without loss, by snapshot windows.
--
-- Ids are drawn before transactions commit, so "everything above the last id I saw" loses whatever commits
-- late, and "everything older than the oldest running transaction" stalls behind one long transaction. A
-- window does neither: it is the set of rows whose transaction is complete in one snapshot (target) and was
-- not complete in the one before (seen). Each committed row lies in exactly one window.
--
-- What keeps a window from scanning the whole log is the floor: an id above which lie the rows of every
-- transaction that had not even begun to number itself when `seen` was taken. It rests on three things:
--   1. a publisher takes its transaction number before it draws an id (hark.notify, the column order);
--   2. between the opening of one window and of the next, some transaction takes its number and ends
--      (the fence; acknowledging is one);
--   3. so a number at or above xmax of the later snapshot was given out after the earlier opening, and
--      its ids lie above the last one that had been drawn there (hark.drawn).
-- xmax of a snapshot is "latest completed + 1", not "not begun yet": a floor taken together with `seen`
-- itself would lose rows. The floor always lags by one window.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (2, 'windows');

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

-- The last id that was drawn. Not `select last_value from hark.log_id_seq`: every 32nd call of nextval writes a
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
-- bettered by waymarks. `otherwise` is the floor that held with the older snapshot.
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
-- VOLATILE, so that each statement sees what has committed by now: a row complete in `target` need not be
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
