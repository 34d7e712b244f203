-- The log in leaves, so that what is old goes whole.
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

-- The leaves of the log, in order; that without bounds is hark.log_rest.
create or replace function hark.leaves() returns table (leaf oid, name text, lower bigint, upper bigint, bytes bigint)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select c.oid, c.relname::text,
    case when b.bound like '%FROM (MINVALUE)%' then 0 else substring(b.bound from 'FROM \(''(-?\d+)''\)')::bigint end,
    substring(b.bound from 'TO \(''(-?\d+)''\)')::bigint, pg_relation_size(c.oid)
  from pg_inherits i
  join pg_class c on c.oid = i.inhrelid
  cross join lateral (select pg_get_expr(c.relpartbound, c.oid)) b (bound)
  where i.inhparent = 'hark.log'::regclass
  order by 3 nulls last
$$;

-- Where the next leaf begins, how many ids it takes, and how many are to have a leaf in advance. There are to be as
-- many leaves as there are parts of what is to be removed, and so few that reading, which locks each, does not notice:
-- so they become larger as there are more of them.
create or replace function hark.next_leaf(out top bigint, out span bigint, out wanted bigint)
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
create or replace function hark.add_leaves() returns integer
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
create or replace function hark.holders_of(relations oid[], writing boolean) returns text[]
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(distinct l.virtualtransaction), '{}') from pg_locks l
  where l.locktype = 'relation' and l.granted and l.relation = any ($1) and (l.mode = 'RowExclusiveLock' or not $2)
    and l.database = (select d.oid from pg_database d where d.datname = current_database())
    and l.pid is distinct from pg_backend_pid()
$$;

-- Whether nobody who has the log open, to publish, to read, or to dump it, stays for as long as 50 ms: so that a lock
-- that they are in the way of is had at once, and nobody waits behind it for long.
create or replace function hark.is_passable() returns boolean
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
create or replace function hark.require_read_committed() returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'the log is not cleaned in a % transaction, which does not see what is registered meanwhile',
        upper(current_setting('transaction_isolation'))
      using errcode = 'HK002', hint = 'Use READ COMMITTED: for a role, alter role ... set default_transaction_isolation = ''read committed''.';
  end if;
end
$$;

-- Makes room for what is published next, where there is less than enough: for whoever reads, or cleans, to call now and
-- then, in a transaction of its own, as its locks are in the way of others until that ends. Returns how many leaves it
-- made. Where somebody is in its own way it waits for 50 ms, and leaves it to the next time. What takes longer the more
-- there is (a second a gigabyte), it does only if it is told to be `patient`.
create or replace function hark.extend(patient boolean default false) returns integer
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
