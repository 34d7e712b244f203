-- Reading without loss, by snapshot windows.
--
-- Ids are drawn before transactions commit, so "everything above the last id I saw" loses rows that commit
-- late. "Everything older than the oldest running transaction" stalls behind one long transaction. A window
-- avoids both. It is the set of rows whose transaction is complete in one snapshot (target) and was not
-- complete in the one before (seen). Each committed row lies in exactly one window.
--
-- The floor keeps a window from scanning the whole log. It is an id below all rows of every transaction that
-- had no transaction number yet when `seen` was taken. It rests on three things:
--   1. A publisher takes its transaction number before it draws an id (hark.notify, the column order).
--   2. Between the opening of one window and of the next, some transaction takes its number and ends. This
--      transaction is the fence; acknowledging is one.
--   3. So a number at or above xmax of the later snapshot was given out after the earlier opening. Its ids
--      lie above the last id that had been drawn at that opening (hark.last_drawn_id).
-- xmax of a snapshot means "latest completed + 1", not "not begun yet". A floor taken together with `seen`
-- itself would therefore lose rows. The floor always lags by one window.

-- Opens the next window of a position. Returns the position as it is if its window is already open. It takes
-- few steps, because a woken worker pays for each about as much as for a whole plain SELECT.
create or replace function hark.window_open(p hark.position) returns hark.position
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
as $$
declare
  w hark.position := p;
begin
  if pg_is_in_recovery() or pg_current_xact_id_if_assigned() is not null
    or not starts_with(current_setting('transaction_isolation'), 'read ')
  then
    perform hark.require_fresh_snapshot();
  end if;
  if w.target is null then
    -- In this order: then no complete transaction has drawn an id above target_max.
    w.target := pg_current_snapshot();
    w.target_max := greatest(p.seen_max, coalesce(pg_sequence_last_value('hark.log_id_seq'), hark.last_drawn_id()));
    w.last_id := p.floor;
    if cardinality(p.stragglers) > 0 then
      select least(p.floor, min(t.low)) into w.last_id
      from unnest(p.stragglers, p.lows) t (xid, low)
      where pg_visible_in_snapshot(t.xid, w.target);
    end if;
  end if;
  -- After the snapshot, because this may take a transaction number.
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

-- Opens a window up to a given snapshot instead of a new one.
create or replace function hark.window_open_to(p hark.position, target pg_snapshot, target_max bigint) returns hark.position
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

-- What the owner of partitions reads next: a position with an open window, and what the consumer reads.
--   alike    a position whose window was opened after `p` was loaded. This window is then opened up to the
--            same snapshot, so that the two positions can be merged at its end.
--   bounded  the number of partitions is changing, so every window counts, even one without rows
--   settled  nothing is left to read until the number of partitions has changed
create or replace function hark.window(
  consumer text, owner uuid, held integer[], epochs bigint[], p hark.position, alike hark.position default null
) returns table (
  "position" hark.position, channels text[], filter jsonb, partitions integer, bounded boolean, settled boolean
)
language plpgsql volatile security definer rows 1 set search_path = pg_catalog, pg_temp
-- Planning would take longer than running.
set plan_cache_mode = force_generic_plan
as $$
declare
  c hark.consumers;
  served integer;
begin
  select (
      -- One by one: the planner cannot estimate how many there are.
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

-- Moves a position past its open window once the window is read to its end. Otherwise returns the
-- position as it is. The caller must put a fence between the opening of this window and of the next (see
-- the head of this file).
--
-- A window from a snapshot to the same snapshot contains nothing. If the floor rose with it, the floor would
-- no longer lag by one window. Such windows occur: partitions that wait for others to reach the barrier are
-- read again and again.
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
    return w; -- no transaction was running
  end if;
  select coalesce(array_agg(x.xid), '{}') into w.stragglers from pg_snapshot_xip(p.target) x (xid);
  if w.stragglers = p.stragglers and w.floor - (select min(t.low) from unnest(p.lows) t (low)) <= 1000 then
    w.lows := p.lows;
    return w; -- no straggler is new, and none has a low far below the floor
  end if;
  w.lows := hark.lows_of(w.stragglers, p.stragglers, p.lows, p.floor);
  if w.floor - (select min(t.low) from unnest(w.lows) t (low)) > 1000 then
    w.lows := hark.raise_lows(w.stragglers, w.lows);
  end if;
  return w;
end
$$;

-- Moves past a window without storing the new position, so that a worker can read ahead while it handles this
-- window. The call is a fence of its own: its transaction takes a number after the opening and ends before
-- the next one.
--
-- A window from before a crash is refused. A fence taken after the crash does not stop the server from giving
-- out again the numbers that the window has seen.
create or replace function hark.window_skip(p hark.position) returns hark.position
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

-- Merges two positions that have seen the same snapshot. The result covers everything that either may still
-- have to look at.
create or replace function hark.merged(a hark.position, b hark.position) returns hark.position
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  m hark.position := a;
begin
  if (a).seen::text <> (b).seen::text or (a).target is not null or (b).target is not null then
    raise exception 'positions that have seen different snapshots cannot be merged' using errcode = 'XX000';
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
