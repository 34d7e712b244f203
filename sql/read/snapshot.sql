-- What a window rests on (window.sql): the server's identity, the last id drawn, and the stragglers. A
-- straggler is a transaction that was still running in a snapshot.

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
comment on function hark.incarnation() is
  'Changes whenever the server has been through crash recovery or a fail-over.';

-- Changes when a standby is promoted. A standby that lacked the end of the log gives out again numbers
-- and ids that the old primary had given out. A position remembered from the old primary therefore
-- means nothing here.
create or replace function hark.timeline() returns text
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$ select left(pg_walfile_name(pg_current_wal_lsn()), 8) $$;

-- The last id drawn. Do not read `last_value` from hark.log_id_seq instead. Every 32nd call of nextval writes
-- a value 32 ahead of the truth into that row, for as long as it takes to log it. A query reads the row
-- without the lock that hides this.
--
-- A window end read there lay above ids not yet drawn, and the rows that later got those ids were lost (seen
-- on PostgreSQL 15: 28 in a row). pg_sequence_last_value takes the lock. It returns null if no id has been
-- drawn, as after a restore without the sequence's value.
create or replace function hark.last_drawn_id() returns bigint
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

-- Refuses to read if a snapshot of this transaction would not mean what reading relies on.
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
  if not starts_with(current_setting('transaction_isolation'), 'read ') then
    raise exception 'reading needs READ COMMITTED, and this transaction is %',
      upper(current_setting('transaction_isolation'))
      using errcode = 'HK002', hint = 'Read in a READ COMMITTED transaction of its own, or give Hark a Database of connect(). '
        'For a role: alter role ... set default_transaction_isolation = ''read committed''.';
  end if;
end
$$;

-- For each running transaction, the low: an id above which all its rows lie. It comes from the position at
-- hand, improved by waymarks (start.sql). `otherwise` is the floor that held with the older snapshot.
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

-- Raises the lows of long transactions that have not published. Otherwise every reader would scan again from
-- such a low when the transaction ends. While a transaction holds no RowExclusiveLock on the log, it has no
-- rows there. Whatever it may still publish lies above the last id drawn before the look. pg_locks shows
-- every role the locks of every transaction.
--
-- A transaction that is ending must not be mistaken for one without rows. It first leaves the list of running
-- transactions, then releases its locks one by one. So only a transaction that still runs in a later
-- statement, with a later snapshot, held all its locks during the look.
--
-- Locks are matched by pid, because a commit during the look changes virtualtransaction. PREPARE moves
-- locks to no pid at all, one partition of the lock table at a time. While a lock on the log has no pid, no
-- low is raised.
create or replace function hark.raise_lows(running xid8[], lows bigint[]) returns bigint[]
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  before_look bigint;
  without_rows xid[];
  raised bigint[];
begin
  before_look := hark.last_drawn_id();
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

-- hark.is_consumed for many rows. It has no SET clause, so PostgreSQL inlines it into the calling query (ten
-- times as fast). It takes only the fields of the position that it reads.
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

-- Whether a position has passed a row.
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
