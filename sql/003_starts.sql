-- Hark 003: where readers begin: waymarks made now and then, and starts that rest on them.

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
