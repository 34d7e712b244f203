-- The log is divided by ranges of ids into segments, so that old notifications are
-- removed as a whole.
--
-- A segment that is old, and that every consumer has passed, is emptied by TRUNCATE, in a moment, whatever
-- its size. PostgreSQL makes these operations wait as follows:
--   - An INSERT into the log locks the log and the segment that takes the row. A statement that reads
--     locks every segment.
--   - TRUNCATE of a segment waits for transactions that have written to that segment or read now. It never
--     waits for a publisher to another segment.
--   - DROP of a segment waits for every open publisher, and all other publishers wait behind it.
--   - ATTACH of a new segment waits for no publisher. But a publisher's statement that began earlier may fail
--     because of it.
-- So readers and cleaning make segments well ahead. A row without a segment goes to the overflow segment
-- (hark.log_overflow), so publishing never fails for lack of one. Segments are made, and empty ones dropped, at a
-- moment without an open publisher. There are many such moments if no publisher stays open. Nothing here
-- waits for long.

-- The segments of the log, in order. The one without bounds is the overflow segment, hark.log_overflow.
create or replace function hark.segments() returns table (segment oid, name text, lower bigint, upper bigint, bytes bigint)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select c.oid, c.relname::text,
    case when b.bound like '%FROM (MINVALUE)%' then 0 else substring(b.bound from 'FROM [(]''(-?[0-9]+)''[)]')::bigint end,
    substring(b.bound from 'TO [(]''(-?[0-9]+)''[)]')::bigint, pg_relation_size(c.oid)
  from pg_inherits i
  join pg_class c on c.oid = i.inhrelid
  cross join lateral (select pg_get_expr(c.relpartbound, c.oid)) b (bound)
  where i.inhparent = 'hark.log'::regclass
  order by 3 nulls last
$$;

-- Where the next segment begins, how many ids it takes, and how many ids should have a segment in advance.
-- Cleaning removes one segment at a time, so there must be enough of them. Reading locks each of them, so
-- there must be few enough for that to cost little. So segments become larger as there are more of them.
create or replace function hark.next_segment(out top bigint, out span bigint, out wanted bigint)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  least_span constant bigint := 1000000;
  largest_span constant bigint := 1000000000;
  filled integer;
begin
  select coalesce(max(f.upper), 0), count(*) filter (where f.bytes > 0 and f.upper is not null)
  into top, filled from hark.segments() f;
  select f.upper - f.lower into span from hark.segments() f where f.upper = top;
  span := coalesce(span, least_span); -- there may be no segment left
  span := greatest(least_span, least(largest_span,
    case when filled >= 12 then span * 2 when filled <= 8 then span / 2 else span end));
  wanted := greatest(span * 2, least_span * 4);
end
$$;

-- Adds segments until there are enough.
create or replace function hark.add_segments() returns integer
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  made integer := 0;
  last_id bigint := hark.last_drawn_id();
  n record;
  top bigint;
begin
  select * into n from hark.next_segment();
  top := n.top;
  while top - last_id < n.wanted loop
    -- Ids drawn while this runs go to the overflow segment, and so do ids drawn before the next segment
    -- begins.
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

-- The transactions that hold a lock on a table, either to write to it or of any kind. Includes prepared
-- transactions.
create or replace function hark.holders_of(relations oid[], writing boolean) returns text[]
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(distinct l.virtualtransaction), '{}') from pg_locks l
  where l.locktype = 'relation' and l.granted and l.relation = any ($1) and (l.mode = 'RowExclusiveLock' or not $2)
    and l.database = (select d.oid from pg_database d where d.datname = current_database())
    and l.pid is distinct from pg_backend_pid()
$$;

-- Whether every session that has the log open, to publish, read or dump it, closes it within 50 ms. If so, a
-- lock that these sessions block is granted at once, and no session waits behind it for long.
create or replace function hark.is_passable() returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  relations constant oid[] := array['hark.log'::regclass, 'hark.log_overflow'::regclass];
  before constant text[] := hark.holders_of(relations, false);
begin
  if cardinality(before) = 0 then
    return true;
  end if;
  perform pg_sleep(0.05);
  return not before && hark.holders_of(relations, false);
end
$$;

-- What is done to segments rests on the current state, not on what a transaction saw when it began.
create or replace function hark.require_read_committed() returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if not starts_with(current_setting('transaction_isolation'), 'read ') then
    raise exception 'the log cannot be cleaned in a % transaction: it would not see consumers that register later',
        upper(current_setting('transaction_isolation'))
      using errcode = 'HK002', hint = 'Use READ COMMITTED. For a role: alter role ... set default_transaction_isolation = ''read committed''.';
  end if;
end
$$;

-- Locks one of the tables for that until this transaction ends. Returns false if another session has it.
--
-- SHARE UPDATE EXCLUSIVE is the weakest lock that two sessions cannot have. A role that may use the schema can get
-- up to ROW EXCLUSIVE on any of its tables, without a right to them, by PREPARE.
create or replace function hark.try_lock(what text) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  execute format('lock table hark.%I in share update exclusive mode nowait', what);
  return true;
exception when lock_not_available then
  return false;
end
$$;

-- Makes segments for the next ids if there are too few. Readers and cleaning call it now and then, in a
-- transaction of its own: its locks block others until that ends. Returns how many segments it made.
--
-- If another session is in the way, this waits for 50 ms and leaves the work to the next call. PostgreSQL reads
-- the whole overflow segment for each segment that is made, and all publishers wait until it has. So above 16 MB the
-- overflow segment is read only once and becomes a segment. Above 64 MB that is done only if `patient`.
create or replace function hark.extend(patient boolean default false) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '50ms'
as $$
declare
  quick constant bigint := 67108864;
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
  select * into n from hark.next_segment();
  if n.top - hark.last_drawn_id() >= n.wanted or not hark.try_lock('segments_lock') then
    return 0;
  end if;
  -- A statement that began earlier knows only the segments of that time. If it still runs when ids of the new
  -- segment are drawn, it would put them into the overflow segment, and fail. So no publisher may be active
  -- at this moment. If a publisher keeps its transaction open, no segment is made, and rows that lack one go
  -- to the overflow segment.
  if not hark.is_passable() then
    return 0;
  end if;
  select f.bytes into rest_bytes from hark.segments() f where f.upper is null;
  if rest_bytes > quick and not patient then
    return 0;
  end if;
  begin
    lock table hark.log_overflow in access exclusive mode;
    if rest_bytes > 16777216 then
      -- ATTACH would scan the overflow segment each time. So it becomes a segment itself, if all its rows fit
      -- between two others.
      lock table only hark.log in access exclusive mode;
      select min(l.id), max(l.id) into first_id, last_id from hark.log_overflow l;
      select coalesce(max(f.upper), 0) into lower_bound from hark.segments() f where f.upper <= first_id;
      select coalesce(min(f.lower), (hark.last_drawn_id() + 1000000) / 1000000 * 1000000) into upper_bound
      from hark.segments() f where f.lower >= lower_bound;
      if last_id < upper_bound then
        renamed := 'log_' || lower_bound;
        alter table hark.log detach partition hark.log_overflow;
        execute format('alter table hark.log_overflow rename to %I', renamed);
        execute format('alter table hark.%I rename constraint log_overflow_pkey to %I', renamed, renamed || '_pkey');
        execute format('alter table hark.log attach partition hark.%I for values from (%s) to (%s)',
          renamed, lower_bound, upper_bound);
        create table hark.log_overflow partition of hark.log default;
      end if;
    else
      lock table only hark.log in share row exclusive mode;
    end if;
    return hark.add_segments();
  exception when lock_not_available or check_violation or duplicate_table or invalid_object_definition then
    return 0;
  end;
end
$$;
