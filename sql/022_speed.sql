-- Hark 022: reading several times as fast.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (22, 'speed');

-- Bytes of a payload with its headers as text, where they must be known; null where that is over 256 MB.
create function hark.text_size(payload jsonb, headers jsonb) returns bigint
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  bytes bigint;
begin
  bytes := octet_length(payload::text)::bigint + coalesce(octet_length(headers::text), 0);
  return case when bytes <= 268435456 then bytes end;
exception when program_limit_exceeded then
  return null;
end
$$;

-- A page of the open window, as hark.window_read describes it (006), in one row of lists: to pass a row from function
-- to query and on to a driver takes longer, value by value, than to find it. JSON as it is written has no line breaks,
-- so they part `payloads` (an empty one cannot be read as text) and `headers` (an empty one: none). `keys` and
-- `channels` are arrays of JSON, `times` are microseconds since 1970, `replays` a 1 or 0 for each. What is the same for
-- all as a rule is null where it is: the channel `usual`, no key, no headers, replay, partition 0.
--
-- With `fence`, `next` is the position past a window that ends with this page and had rows in it: this transaction
-- takes a number after the window was opened, and ends before the next one is.
create function hark.page(
  p hark.position, channels text[], max_rows integer, max_bytes bigint, max_scanned integer,
  started pg_snapshot, filter jsonb default null, partitions integer default 1,
  held integer[] default null, usual text default null, fence boolean default false,
  out ids text, out channel_list text, out keys text, out payloads text, out header_list text, out times text,
  out replays text, out partition_list text, out "position" hark.position, out window_end boolean, out window_span bigint,
  out next hark.position
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
-- A page is a range of the primary key, whatever the statistics say of a table that grows this fast.
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  -- What each row is compared with is a variable, not a field of the position, which would be looked up for each.
  finished xid8[] := '{}';
  next_xid xid8 := pg_snapshot_xmax(p.seen);
  seen_nothing boolean := p.seen::text = '1:1:';
  after_id bigint := p.last_id;
  target pg_snapshot := p.target;
  target_max bigint := p.target_max;
  complete_through bigint;
  here uuid;
  -- Payloads of up to so many bytes, stored as they are, are taken at once; the list of them stays below a gigabyte.
  small constant integer := least(8000, 200000000 / greatest(max_rows, 1));
  at_once boolean := true;
  found bigint;
  taken bigint;
  whole boolean;
  last_id bigint;
begin
  select i.rebased_through, n.id into complete_through, here from hark.install i left join hark.incarnation n on true;
  if p.incarnation is distinct from here then
    raise exception 'the server has restarted after a crash since this window was opened'
      using errcode = 'HK004', hint = 'Load the stored position and open a new window.';
  end if;
  if cardinality(p.stragglers) > 0 then
    select coalesce(array_agg(t.xid), '{}') into finished
    from unnest(p.stragglers) t (xid) where pg_visible_in_snapshot(t.xid, target);
  end if;
  loop
    begin
      select max(k.id), count(*), string_agg(k.id::text, ','),
        json_object_agg(k.id, k.channel) filter (where k.channel is distinct from usual),
        case when count(k.key) > 0 then json_agg(k.key)::text end,
        string_agg(case when k.plain and at_once then k.payload::text else '' end, E'\n'),
        case when count(k.headers) > 0 then
          string_agg(case when k.plain and at_once then coalesce(k.headers::text, '') else '' end, E'\n') end,
        string_agg((date_part('epoch', k.created_at) * 1000000)::bigint::text, ','),
        case when not bool_and(k.is_replay) then string_agg(case when k.is_replay then '1' else '0' end, '') end,
        case when partitions > 1 then string_agg(hark.partition_of(k.key, k.id, partitions)::text, ',') end,
        at_once and coalesce(sum(k.stored) <= max_bytes and bool_and(k.plain), true)
      into last_id, found, ids, channel_list, keys, payloads, header_list, times, replays, partition_list, whole
      from (
        select s.id, s.channel, s.key, s.payload, s.headers, s.created_at,
          case when s.id <= complete_through then true else pg_visible_in_snapshot(s.xid, started) end as is_replay,
          100 + s.payload_size + coalesce(s.headers_size, 0) as stored,
          s.payload_size <= small and pg_column_compression(s.payload) is null
            and (s.headers is null or s.headers_size <= small and pg_column_compression(s.headers) is null) as plain
        from (
          -- The inner limit bounds the scan; without it the planner sorts the whole log.
          select l.xid, l.id, l.channel, l.key, l.payload, l.headers, l.created_at,
            pg_column_size(l.payload) as payload_size, pg_column_size(l.headers) as headers_size
          from hark.log l
          where l.id > after_id and l.id <= target_max
          order by l.id
          limit max_scanned
        ) s
        where case when s.id <= complete_through then seen_nothing
            else (s.xid >= next_xid or s.xid = any (finished)) and pg_visible_in_snapshot(s.xid, target)
          end
          and (channels is null or s.channel = any (channels))
          and (held is null or hark.partition_of(s.key, s.id, partitions) = any (held))
          and (filter is null or hark.matches(filter, s.key, s.payload, s.headers))
        order by s.id
        limit max_rows
      ) k;
      exit;
    exception when program_limit_exceeded then
      -- A number of ten bytes may be written in 130,000 digits. Once more, to find which rows there are.
      if not at_once then
        raise;
      end if;
      at_once := false;
    end;
  end loop;
  taken := found;
  while not whole loop
    begin
      -- Bytes as stored are at most those sent, as a rule, and known without fetching or unpacking anything: they bound
      -- what is unpacked to find the true size.
      select max(k.id), count(*), string_agg(k.id::text, ','),
        json_object_agg(k.id, k.channel) filter (where k.channel is distinct from usual),
        case when count(k.key) > 0 then json_agg(k.key)::text end,
        string_agg(case when k.bytes is not null then k.payload::text else '' end, E'\n'),
        case when count(k.headers) > 0 then
          string_agg(case when k.bytes is not null then coalesce(k.headers::text, '') else '' end, E'\n') end,
        string_agg((date_part('epoch', k.created_at) * 1000000)::bigint::text, ','),
        case when not bool_and(k.is_replay) then string_agg(case when k.is_replay then '1' else '0' end, '') end,
        case when partitions > 1 then string_agg(hark.partition_of(k.key, k.id, partitions)::text, ',') end
      into last_id, taken, ids, channel_list, keys, payloads, header_list, times, replays, partition_list
      from (
        select m.*
        from (
          select k.*,
            sum(100 + coalesce(pg_column_size(k.headers), 0) + coalesce(k.bytes, 0))
              over (order by k.id rows between unbounded preceding and 1 preceding) as bytes_before
          from (
            select k.*,
              case when not at_once then hark.text_size(k.payload, k.headers)
                when pg_column_size(k.payload) > 100000 then hark.readable_size(k.payload)
                when pg_column_compression(k.payload) is null then pg_column_size(k.payload)
                else octet_length(k.payload::text) end as bytes
            from (
              select l.*, coalesce(f.replay, '1') = '1' as is_replay,
                sum(100 + pg_column_size(l.payload) + coalesce(pg_column_size(l.headers), 0))
                  over (order by l.id rows between unbounded preceding and 1 preceding) as stored_before
              from unnest(string_to_array(ids, ',')::bigint[], string_to_array(replays, null)) f (id, replay)
              -- Row by row: the planner has no idea of how many there are.
              cross join lateral (select g.* from hark.log g where g.id = f.id offset 0) l
            ) k
            where coalesce(k.stored_before, 0) < max_bytes
            offset 0
          ) k
        ) m
        where coalesce(m.bytes_before, 0) < max_bytes
        order by m.id
      ) k;
      exit;
    exception when program_limit_exceeded then
      if not at_once then
        raise;
      end if;
      at_once := false;
    end;
  end loop;
  if taken < max_rows and taken = found and target_max - after_id <= max_scanned then
    last_id := target_max;
  elsif taken < max_rows and taken = found then
    select coalesce(
      (select l.id from hark.log l where l.id > after_id and l.id <= target_max
        order by l.id offset max_scanned - 1 limit 1),
      target_max) into last_id;
  end if;
  last_id := coalesce(last_id, after_id); -- all that was found is being removed
  "position" := row(p.seen, p.seen_max, p.floor, p.stragglers, p.lows, p.target, p.target_max, last_id, p.incarnation);
  window_end := last_id >= p.target_max;
  window_span := p.target_max - least(p.floor, p.last_id);
  if fence and window_end and taken > 0 and pg_current_xact_id_if_assigned() is null then
    if pg_current_xact_id() is not null then
      next := hark.window_advance("position");
    end if;
  end if;
end
$$;

-- As in 006, a row a notification: a page unpacked, for who reads with SQL.
create or replace function hark.window_read(
  p hark.position, channels text[], max_rows integer, max_bytes bigint, max_scanned integer,
  started pg_snapshot, filter jsonb default null, partitions integer default 1,
  held integer[] default null
) returns table (
  id bigint, channel text, key text, payload jsonb, headers jsonb, created_at timestamptz,
  is_replay boolean, partition integer, "position" hark.position, window_end boolean, window_span bigint
)
language plpgsql volatile security definer rows 500 set search_path = pg_catalog, pg_temp
as $$
declare
  g record;
begin
  select * into g from hark.page(p, channels, max_rows, max_bytes, max_scanned, started, filter, partitions, held);
  return query
  select i.id::bigint, g.channel_list::json ->> i.id, i.key, nullif(i.payload, '')::jsonb, nullif(i.headers, '')::jsonb,
    'epoch'::timestamptz + i.micros::bigint * interval '1 microsecond',
    coalesce(substr(g.replays, i.place::integer, 1), '1') = '1', coalesce(i.partition::integer, 0),
    null::hark.position, null::boolean, null::bigint
  from rows from (
    string_to_table(g.ids, ','), json_array_elements_text(g.keys::json),
    string_to_table(g.payloads, E'\n'), string_to_table(g.header_list, E'\n'), string_to_table(g.times, ','),
    string_to_table(g.partition_list, ',')
  ) with ordinality i (id, key, payload, headers, micros, partition, place);
  return query
  select null::bigint, null::text, null::text, null::jsonb, null::jsonb, null::timestamptz, null::boolean, null::integer,
    g."position", g.window_end, g.window_span;
end
$$;

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

-- As in 010, in a time that grows no faster than the number of partitions held.
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
