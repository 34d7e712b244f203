-- What a window rests on (window.sql): the server's identity, the last id drawn, and the transactions still running.

create or replace function hark.incarnation() returns uuid
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
create or replace function hark.timeline() returns text
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$ select left(pg_walfile_name(pg_current_wal_lsn()), 8) $$;

-- The last id that was drawn. Not `select last_value from hark.log_id_seq`: every 32nd call of nextval writes a
-- value 32 ahead of the truth into that row, for as long as it takes to log it, and a query reads the row
-- without the lock that hides this. An end of a window read there lay above ids that were yet to be drawn, and
-- what then got them was lost (seen on PostgreSQL 15: 28 in a row). This function takes the lock. It gives null
-- where nothing has been drawn, as after a restore without the sequence's value.
create or replace function hark.drawn() returns bigint
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
create or replace function hark.require_fresh_snapshot() returns void
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
create or replace function hark.lows_of(
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
create or replace function hark.raise_lows(running xid8[], lows bigint[]) returns bigint[]
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

-- hark.is_consumed for many rows: no SET clause, so that it becomes part of the query that calls it (ten times as
-- fast), and of a position only what it looks at.
create or replace function hark.passed(
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

-- Whether a position is past a row.
create or replace function hark.is_consumed(id bigint, xid xid8, p hark.position, rebased_through bigint)
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
