-- Hark 024: the steps of reading, fewer and cheaper.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (24, 'steps');

-- As in 002 and 009, in fewer steps: who is woken pays for each, about as much as for all of a plain SELECT.
create or replace function hark.window_open(p hark.position) returns hark.position
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
as $$
declare
  w hark.position := p;
begin
  if pg_is_in_recovery() or pg_current_xact_id_if_assigned() is not null
    or current_setting('transaction_isolation') <> 'read committed'
  then
    perform hark.require_fresh_snapshot();
  end if;
  if w.target is null then
    -- In this order: so no complete transaction has drawn an id above target_max.
    w.target := pg_current_snapshot();
    w.target_max := greatest(p.seen_max, coalesce(pg_sequence_last_value('hark.log_id_seq'), hark.drawn()));
    w.last_id := p.floor;
    if cardinality(p.stragglers) > 0 then
      select least(p.floor, min(t.low)) into w.last_id
      from unnest(p.stragglers, p.lows) t (xid, low)
      where pg_visible_in_snapshot(t.xid, w.target);
    end if;
  end if;
  -- After the snapshot: this may take a number.
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

create or replace function hark.window(
  consumer text, owner uuid, held integer[], epochs bigint[], p hark.position, alike hark.position default null
) returns table (
  "position" hark.position, channels text[], filter jsonb, partitions integer, bounded boolean, settled boolean
)
language plpgsql volatile security definer rows 1 set search_path = pg_catalog, pg_temp
-- To plan that takes longer than to do it.
set plan_cache_mode = force_generic_plan
as $$
declare
  c hark.consumers;
  served integer;
begin
  select (
      -- One by one: the planner has no idea of how many there are.
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

-- As in 010, but whose the partitions are is looked up one by one: the planner compared each with each.
create or replace function hark.acknowledge(
  consumer text, owner uuid, held integer[], epochs bigint[], positions text[], throughs bigint[],
  handled bigint[], calm boolean[], outcomes json default null
) returns text[]
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  here uuid;
  served integer;
  moved text[] := positions;
  p hark.position;
  complete_through bigint;
begin
  perform hark.require_fresh_snapshot();
  here := hark.incarnation();
  select count(*) into served
  from (select h.* from unnest(held, epochs) h (partition, epoch) order by h.partition) h
  cross join lateral (
    select from hark.partitions s
    where s.consumer = $1 and s.partition = h.partition and s.epoch = h.epoch and s.owner = $2 limit 1
    for update
  ) s;
  if served <> cardinality(held) then
    perform hark.raise_fenced($1, $3);
  end if;
  for i in 1 .. cardinality(held) loop
    continue when positions[i] is null;
    if i > 1 and positions[i] = positions[i - 1] and throughs[i] is not distinct from throughs[i - 1] then
      moved[i] := moved[i - 1];
      continue;
    end if;
    p := positions[i]::hark.position;
    if p.incarnation is distinct from here then
      raise exception 'the server has restarted after a crash since this window was opened'
        using errcode = 'HK004', hint = 'Load the stored position and open a new window.';
    end if;
    if throughs[i] is not null then
      p.last_id := throughs[i];
    else
      p := hark.window_advance(p);
    end if;
    moved[i] := p::text;
  end loop;
  update hark.partitions s set
    "position" = coalesce(h.moved::hark.position, s.position),
    handled = s.handled + h.handled,
    acknowledged_at = clock_timestamp(),
    served_at = clock_timestamp(),
    crashes = case when h.calm then 0 else s.crashes end,
    trying_id = case when h.calm then null else s.trying_id end,
    suspect_id = case when h.calm then null else s.suspect_id end,
    suspect_ends = case when h.calm then 0 else s.suspect_ends end
  from unnest(held, moved, $7, calm) h (partition, moved, handled, calm)
  where s.consumer = $1 and s.partition = h.partition;
  if outcomes is not null then
    perform hark.settle($1, outcomes);
  end if;
  if exists (select from hark.done d where d.consumer = $1 and d.partition = any (held)) then
    select i.rebased_through into complete_through from hark.install i;
    delete from hark.done d
    using hark.partitions s
    where d.consumer = $1 and d.partition = any (held) and s.consumer = $1 and s.partition = d.partition
      and coalesce(
        (select hark.is_consumed(l.id, l.xid, s.position, complete_through) from hark.log l where l.id = d.id),
        true);
  end if;
  return moved;
end
$$;

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
    return w; -- nothing was running
  end if;
  select coalesce(array_agg(x.xid), '{}') into w.stragglers from pg_snapshot_xip(p.target) x (xid);
  if w.stragglers = p.stragglers and w.floor - (select min(t.low) from unnest(p.lows) t (low)) <= 1000 then
    w.lows := p.lows;
    return w; -- none is new, and none far behind
  end if;
  w.lows := hark.lows_of(w.stragglers, p.stragglers, p.lows, p.floor);
  if w.floor - (select min(t.low) from unnest(w.lows) t (low)) > 1000 then
    w.lows := hark.raise_lows(w.stragglers, w.lows);
  end if;
  return w;
end
$$;

-- As in 009, but a window from before a crash is refused: a fence taken after it does not keep the numbers that the
-- window has seen from being given out again.
create or replace function hark.pass(p hark.position) returns hark.position
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

revoke execute on all functions in schema hark from public;
