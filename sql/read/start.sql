-- Where readers begin: waymarks, the starts that rest on them, and going on after a restore. A waymark is a
-- position that is stored now and then and that no reader reads from.

-- Stores a waymark if at least min_ids ids have been drawn since the newest one. After min_age a single new
-- id is enough. Returns whether it stored one. Refused in a transaction that has written, and on a standby.
create or replace function hark.waymark(min_ids bigint default 10000, min_age interval default '1 minute')
returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  last hark.waymarks;
  here hark.position;
begin
  perform hark.require_fresh_snapshot();
  -- One statement: the newest waymark is visible in this snapshot, which makes its transaction the fence.
  select pg_current_snapshot(), hark.last_drawn_id(),
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

-- The position at which a reader begins. Before it opens its first window, the reader's transaction must
-- write or take a number, and end. This call is then the fence: seen_max, taken here, may become the floor
-- after that window.
--   now        rows not yet visible, including those that a running transaction commits later
--   beginning  everything in the log
--   id         that id and above
--   time       at least everything committed since that time (from the last waymark before it)
create or replace function hark.start_position(start_kind text, start_id bigint, start_time timestamptz)
returns hark.position
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  p hark.position;
  last hark.waymarks;
begin
  perform hark.require_fresh_snapshot();
  select pg_current_snapshot(), hark.last_drawn_id(),
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
      raise exception 'cannot start at id %: the log has drawn ids up to %', start_id, p.seen_max
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

-- hark.start_position for a transaction that has written. Only the ids matter to its callers.
create or replace function hark.start_position_of(kind text, id bigint, "time" timestamptz) returns hark.position
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

-- Makes the log readable after a dump and restore into another cluster. That server gives out
-- transaction numbers that the log already holds, so every stored snapshot is meaningless. The server's
-- identity reveals this.
--
-- Publishing stops for a moment. Everything stored then counts as complete, and every position goes back to a
-- place that is certain: repeats rather than losses. pg_upgrade keeps the numbers and needs none of it.
--
-- If this server's numbers have passed all stored ones by now, that proves nothing. Rows may have been
-- published here earlier, before the first reader came. Their numbers are ones that the stored snapshots
-- count as seen.
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
  through := hark.last_drawn_id();
  update hark.install set system_identifier = here, rebased_through = through;
  update hark.install i set written_by = i.xmin;
  delete from hark.incarnation;
  delete from hark.waymarks;
  insert into hark.waymarks values
    (0, '-infinity', '1:1:', through, 0, '{}', '{}', own),
    (1, clock_timestamp(), '1:1:', through, through, '{}', '{}', own);
  -- The barrier is a snapshot, which means nothing here either: a change of partitions begins again.
  update hark.consumers c set barrier = null, barrier_max = null;
  delete from hark.processes;
  update hark.partitions p set
    "position" = row('1:1:'::pg_snapshot, through,
      least((p.position).floor, (select min(t.low) from unnest((p.position).lows) t (low))),
      '{}'::xid8[], '{}'::bigint[], null, null, null, null)::hark.position,
    epoch = p.epoch + 1, owner = null;
  return true;
end
$$;
comment on function hark.rebase() is
  'Makes the log readable on a server it was restored to. Each reader calls it as it starts.';

-- A snapshot in which this transaction counts as running. It has a number, but its own snapshot does
-- not list it.
create or replace function hark.without_own(s pg_snapshot) returns pg_snapshot
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select case when pg_current_xact_id() >= pg_snapshot_xmax(s) then s
    else format('%s:%s:%s', least(pg_snapshot_xmin(s), pg_current_xact_id()), pg_snapshot_xmax(s), (
      select string_agg(x.xid::text, ',' order by x.xid)
      from (select r.xid from pg_snapshot_xip(s) r (xid) union select pg_current_xact_id()) x
    ))::pg_snapshot end
$$;
