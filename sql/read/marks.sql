-- Reading without loss: marks.
--
-- Ids are drawn before transactions commit, so "everything above the last id I saw" loses rows that commit
-- late. "Everything older than the oldest running transaction" stalls behind one long transaction. Hark reads
-- between two snapshots instead: rows whose transaction is complete in the later one and was not complete in
-- the earlier one. Each committed row lies in exactly one of neighbouring windows.
--
-- All readers share one chain of such snapshots, the marks. A window is any two marks. A position is the mark
-- that was seen, and inside a window also its target and the last id read. Readers hold marks by content, and stored
-- positions refer to copies (hark.kept_marks). So the chain can be thinned at any time.
--
-- A snapshot says which transactions had ended. A reader must also know from which id to look for the others. Of
-- each mark that is stored (a mark "built upon" is the newest that the same statement sees):
--   max_id  the last id drawn, read after the snapshot: complete transactions have no greater id
--   floor   max_id of the mark built upon. Transactions with a number of at least `upper` have greater ids.
--   lows    for each transaction running in the snapshot, an id that all its ids lie above
--   fence   the number of the mark's own transaction, taken after max_id was read
-- This rests on three things:
--   1. A publisher takes its transaction number before it draws an id (hark.notify, the column order).
--   2. One statement reads the snapshot and the mark built upon. So that mark's transaction is complete in the
--      snapshot, and `upper` lies above its fence. A number of at least `upper` was given out after the fence,
--      and so after that mark's max_id was read: its ids lie above.
--   3. A running transaction with a number above that fence has its ids above that max_id, for the same reason.
--      With one between that mark's `upper` and its fence, they lie above that mark's floor. An older one was
--      running in that mark too, which has its low.
-- A mark's own max_id is no floor: `upper` means "latest completed + 1", not "not begun yet".
--
-- A reader that looks often stores few of these marks. In between it reads to private marks (hark.look), which are not
-- stored. A private mark is made as any other, upon the newest stored one, but has no fence:
--   - It is a sound end and a sound beginning of a window. The three things above speak of the mark built upon, and that
--     one is stored. The own fence only serves marks that are built upon this one.
--   - Nothing is built upon it. It is in no chain, and so is what a reader says of its mark.
--   - It lags as far behind as the mark it is built upon: a window that begins at it scans the ids since then again. So
--     readers store a mark before that is much (hark.wants_cut).
--   - A stored position refers to a copy, as with any mark. The transaction that keeps the copy has a number that is not
--     below `upper`. In the WAL, its record comes after the records of all that the mark sees, and after the sequence's
--     record up to max_id. So where the copy survives a crash, all that has survived too, and no number below `upper`
--     and no id up to max_id is given out again.
--   - In memory it outlives a crash if a stored mark does that is at least as late, as any mark (hark.survives).
-- It may be later than the newest stored mark. Where a position is moved to a stored mark, that must be the later one.
--
-- No lock makes this right: any mark that the snapshot sees will do. Snapshots of one server are ordered by
-- containment, so of two marks the later has the greater `upper`, or the same and fewer transactions running.
-- It may be stored first. `number` only names a mark.

-- The incarnation of the server. Marks call it their life. It begins with the time at which it began, so that lives sort
-- in their order, as positions outside of the database do.
create or replace function hark.incarnation() returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  now_id uuid;
begin
  select i.id into now_id from hark.incarnation i;
  if now_id is null then
    -- Later than any life before, whatever the clock says.
    insert into hark.incarnation (id)
    select overlay(gen_random_uuid()::text placing left(t.hex, 8) || '-' || right(t.hex, 4) from 1)::uuid
    from lpad(to_hex(least(281474976710655, greatest(
      (extract(epoch from clock_timestamp()) * 1000)::bigint,
      (select ('x' || left(replace(max(m.life::text), '-', ''), 12))::bit(48)::bigint + 1 from hark.marks m)
    ))), 12, '0') t (hex)
    on conflict do nothing;
    select i.id into now_id from hark.incarnation i;
  end if;
  return now_id;
end
$$;
comment on function hark.incarnation() is
  'Changes whenever the server has been through crash recovery or a fail-over.';

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

-- Refuses to cut if a snapshot of this transaction would not mean what reading relies on.
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

-- A mark as readers hold it. The text is the same whatever style of dates the session has.
create or replace function hark.content_of(m hark.marks) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp set datestyle = 'ISO'
as $$
begin
  return case when m.number is not null then m::text end;
end
$$;

-- The newest mark.
create or replace function hark.newest_mark() returns hark.marks
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$ select * from hark.marks m order by m.upper desc, m.running, m.number desc limit 1 $$;

-- Cuts a mark that sees everything committed before the call, or returns one that does. It is a statement of its
-- own, never one with a page, whose reader might take long to receive it.
--
-- Nothing waits for the mark to reach the disk: one that a crash takes had only told what is in the log. In a
-- transaction that goes on, the setting would also be that of what it writes next. So it is left alone there.
-- Several statements in one message begin at one time, so they cannot be told from a statement of its own.
create or replace function hark.cut() returns hark.marks
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if transaction_timestamp() = statement_timestamp() then
    perform set_config('synchronous_commit', 'off', true);
  end if;
  return hark.new_mark(true);
end
$$;
comment on function hark.cut() is
  'Stores where the log is now, as a mark, unless the newest mark says it. Call it in a transaction of its own.';

-- hark.cut, for a function that goes on in the transaction. Such a mark is sound too: as long as the transaction is
-- open, no other builds on it. With `polite`, it first tries for a moment not to cut beside another session: a mark
-- that another session has cut in that moment will do, if it sees all that this call's first snapshot sees. A session
-- that keeps the lock takes 5 ms from each cut of the others, and no more.
--
-- Nothing is stored if the newest mark says it all:
--   - the sequence stands where it stood,
--   - the mark is settled: no id was drawn between it and the mark it builds on either. So each transaction
--     that may have an id up to there is complete in it or listed by it,
--   - no straggler has ended that may have such an id,
--   - the mark is of this life. A reader of an earlier one soon has a mark that needs no second look.
-- Foreign transactions come and go without a mark.
--
-- With `looking`, it stores nothing in any case: it returns null if there is something new.
--
-- With `private`, it returns a private mark instead of storing one, or `seen` if that sees the same.
create or replace function hark.new_mark(
  polite boolean, looking boolean default false, private boolean default false, seen hark.marks default null
) returns hark.marks
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
-- Planning at each call would take longer than running.
set plan_cache_mode = force_generic_plan
as $$
declare
  m hark.marks;
  last hark.marks;
  asked_upper xid8;
  asked_running integer;
  tries integer := 0;
begin
  if pg_is_in_recovery() or pg_current_xact_id_if_assigned() is not null
    or not starts_with(current_setting('transaction_isolation'), 'read ')
  then
    perform hark.require_fresh_snapshot();
  end if;
  loop
    -- One statement: the mark built upon is complete in the snapshot.
    select pg_current_snapshot(), i.id, w.number, w.life, w.taken_at, w.snapshot, w.upper, w.running, w.max_id, w.floor,
      w.low, w.stragglers, w.lows, w.fence, w.looked_at
    into m.snapshot, m.life, last.number, last.life, last.taken_at, last.snapshot, last.upper, last.running, last.max_id,
      last.floor, last.low, last.stragglers, last.lows, last.fence, last.looked_at
    from (select * from hark.marks n order by n.upper desc, n.running, n.number desc limit 1) w
    left join hark.incarnation i on true;
    if private and m.life = seen.life and m.snapshot::text = seen.snapshot::text then
      return seen;
    end if;
    m.upper := pg_snapshot_xmax(m.snapshot);
    m.stragglers := '{}';
    if right(m.snapshot::text, 1) <> ':' then
      select array_agg(x.xid) into m.stragglers from pg_snapshot_xip(m.snapshot) x (xid);
    end if;
    m.running := cardinality(m.stragglers);
    -- After the snapshot: then no complete transaction has drawn a greater id.
    m.max_id := greatest(last.max_id, coalesce(pg_sequence_last_value('hark.log_id_seq'), hark.last_drawn_id()));
    if m.max_id = last.max_id and last.floor = last.max_id and last.life = m.life then
      -- Apart, because an expression with a query in it runs as a statement.
      if last.low = last.max_id or not exists (
        select from unnest(last.stragglers, last.lows) t (xid, low)
        where t.low < last.max_id and pg_visible_in_snapshot(t.xid, m.snapshot))
      then
        return last;
      end if;
    end if;
    if looking then
      return null;
    end if;
    exit when private;
    if tries = 0 then
      asked_upper := m.upper;
      asked_running := m.running;
    elsif last.life = m.life
      and (last.upper > asked_upper or last.upper = asked_upper and last.running <= asked_running)
    then
      return last;
    end if;
    exit when not polite or tries = 5 or pg_try_advisory_xact_lock(5237, 16);
    tries := tries + 1;
    perform pg_sleep(0.001);
  end loop;
  m.floor := last.max_id;
  m.low := m.floor;
  m.lows := '{}';
  m.looked_at := last.looked_at;
  if m.running > 0 then
    select array_agg(
      case when x.xid > last.fence then last.max_id
        when x.xid >= last.upper then last.floor
        else (select k.low from unnest(last.stragglers, last.lows) k (xid, low) where k.xid = x.xid)
      end order by x.place)
    into m.lows from unnest(m.stragglers) with ordinality x (xid, place);
    if array_position(m.lows, null) is not null then
      raise exception 'mark % does not know transaction %, which is older', last.number,
        m.stragglers[array_position(m.lows, null)]
        using errcode = 'XX000', hint = 'Rows of hark.marks have been changed by hand. Call hark.rebase().';
    end if;
    m.low := least(m.floor, (select min(t.low) from unnest(m.lows) t (low)));
    if m.max_id - m.low > 10000
      and not private and clock_timestamp() not between last.looked_at and last.looked_at + interval '1 second'
    then
      m.lows := hark.raise_lows(m.stragglers, m.lows);
      m.low := least(m.floor, (select min(t.low) from unnest(m.lows) t (low)));
      m.looked_at := clock_timestamp();
    end if;
  end if;
  if m.life is null then
    m.life := hark.incarnation();
  end if;
  if private then
    m.number := -nextval('hark.private_numbers');
    m.taken_at := clock_timestamp();
    m.looked_at := last.taken_at;
    return m;
  end if;
  m.fence := pg_current_xact_id();
  m.number := nextval('hark.mark_numbers');
  m.taken_at := clock_timestamp();
  insert into hark.marks select (m).*;
  return m;
end
$$;

-- Where the log is now, as a private mark: no mark is stored. It may be one statement with a page, as it takes no lock that
-- others wait for, and no number. (In one call of a thousand, drawing the mark's own number does.) The first one after a
-- crash stores the incarnation, and other readers wait for its transaction.
create or replace function hark.look() returns hark.marks
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return hark.new_mark(false, false, true);
end
$$;
comment on function hark.look() is
  'Where the log is now, as a mark that is not stored, or the newest stored mark if that says it.';

-- Whether it is time to store a mark, as a private mark tells. The one it was built upon is more than a second old: a
-- reader can begin at a time only where there is a mark. Or that one is younger, as the server's clock went back. Or it is
-- 200 ids behind, which each look then scans again. To scan 1,000 ids takes longer than all else in a look.
create or replace function hark.wants_cut(m hark.marks) returns boolean
language sql stable
as $$
  select $1.number operator(pg_catalog.<) 0 and (
    $1.taken_at operator(pg_catalog.>) ($1.looked_at operator(pg_catalog.+) '1 second'::pg_catalog.interval)
    or $1.taken_at operator(pg_catalog.<) $1.looked_at
    or $1.max_id operator(pg_catalog.-) $1.floor operator(pg_catalog.>) 200
  )
$$;

-- Raises the lows of long transactions that have not published. Otherwise every reader would scan again from
-- such a low when the transaction ends. While a transaction holds no RowExclusiveLock on the log, it has no
-- rows there. Whatever it may still publish lies above the last id drawn before the look. pg_locks shows
-- every role the locks of every transaction. No function inserts into a segment by its own name.
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
