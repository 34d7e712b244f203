-- Hark 009: windows for several partitions: opened alike, passed without storing, made one.

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

-- What an owner reads next: a position with a window open, and what the consumer reads. With `alike`, a position
-- whose window was opened after `p` was loaded, it is opened up to the same snapshot, so that the two can be one
-- from its end on. `bounded` says that the number of partitions is changing, so that every window counts; `settled`
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
