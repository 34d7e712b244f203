-- One page of an open window, and which rows are in it.

-- The partition that a notification belongs to. One key always maps to one partition; null keys
-- have no order.
create or replace function hark.partition_of(key text, id bigint, partitions integer) returns integer
language sql immutable
as $$
  select case when $3 operator(pg_catalog.=) 1 then 0 else (
    case when $1 is null then $2
      else ('x' operator(pg_catalog.||) pg_catalog.left(pg_catalog.md5($1), 8))::pg_catalog.bit(32)::pg_catalog.int8
    end operator(pg_catalog.%) $3)::pg_catalog.int4
  end
$$;
comment on function hark.partition_of(text, bigint, integer) is
  'The partition of a key: the first 4 bytes of its md5, modulo the number of partitions.';

-- Whether a notification passes a consumer's filter: {"payload": ..., "headers": ..., "key": ["a", "b"]}.
-- Payload and headers are compared by containment (jsonb @>). A filter holds paths and values, never SQL.
create or replace function hark.matches(filter jsonb, key text, payload jsonb, headers jsonb) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select ($1 -> 'payload' is null or $3 @> ($1 -> 'payload'))
    and ($1 -> 'headers' is null or coalesce($4, '{}') @> ($1 -> 'headers'))
    and ($1 -> 'key' is null or coalesce(($1 -> 'key') ? $2, false))
$$;

-- The size of a payload when unpacked, in bytes. Null if it is over 64 MB, or over 256 MB as text: such a
-- payload is not delivered.
--
-- Without this limit, a jsonb can be so large that PostgreSQL cannot write it out (1 GB) or JavaScript cannot
-- hold it (512 MB). A reader may also need more time for it than it has, and retry for ever. Such a
-- notification becomes a dead letter instead.
create or replace function hark.readable_size(payload jsonb) returns bigint
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  -- Measure a value built here: the stored one may be compressed.
  unpacked bigint := pg_column_size(jsonb_build_array(payload));
begin
  if unpacked > 67108864 then
    return null;
  end if;
  -- One character becomes at most six in the text, so only values above a sixth of the limit are written out.
  if unpacked > 44739242 and octet_length(payload::text) > 268435456 then
    return null;
  end if;
  return unpacked;
end
$$;

-- The bytes of a payload and its headers as text, for callers that need the exact size. Null if that is
-- over 256 MB.
create or replace function hark.text_size(payload jsonb, headers jsonb) returns bigint
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

-- Reads a page of the open window. Returns its notifications, the position after them, whether the window
-- ends there, and how many ids the window spans.
--
-- A page ends at max_rows rows, with the row that passes max_bytes, or after max_scanned scanned rows. The
-- last bound lets a read of a rare channel return promptly. A row whose payload cannot be read as text has a
-- null payload. Only rows of the partitions in `held` are returned; `partitions` is their total number. One
-- scan serves all partitions that a worker owns.
--
-- The result is one row of lists. Passing values one by one from function to query to driver takes longer
-- than finding the rows.
--   ids             joined by commas
--   channel_list    a JSON object from id to channel, of the rows whose channel is not `usual`
--   keys            a JSON array
--   payloads        JSON values joined by line breaks, which JSON as written here does not contain; an empty
--                   one cannot be read as text
--   header_list     the same; an empty one means no headers
--   times           in microseconds since 1970, joined by commas
--   replays         a 1 or 0 for each row, without separators
--   partition_list  joined by commas
-- A list is null if every row has the usual value: the channel `usual`, no key, no headers, a
-- replay, partition 0.
--
-- With `fence`, `next` is the position past the window. It is set only if the window ends with this page and
-- the page has rows. This transaction is the fence: it takes a number after the window was opened, and ends
-- before the next one is.
--
-- VOLATILE, so that each statement sees what has committed by then. A row complete in `target` need not be
-- visible to the statement that opened the window and called this function.
create or replace function hark.page(
  p hark.position, channels text[], max_rows integer, max_bytes bigint, max_scanned integer,
  started pg_snapshot, filter jsonb default null, partitions integer default 1,
  held integer[] default null, usual text default null, fence boolean default false,
  out ids text, out channel_list text, out keys text, out payloads text, out header_list text, out times text,
  out replays text, out partition_list text, out "position" hark.position, out window_end boolean, out window_span bigint,
  out next hark.position
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
-- A page must be a range scan of the primary key, whatever statistics say about a table that grows this fast.
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  -- Variables, because fields of the position would be looked up again for each row.
  finished xid8[] := '{}';
  next_xid xid8 := pg_snapshot_xmax(p.seen);
  seen_nothing boolean := p.seen::text = '1:1:';
  after_id bigint := p.last_id;
  target pg_snapshot := p.target;
  target_max bigint := p.target_max;
  complete_through bigint;
  here uuid;
  -- Payloads up to this many bytes that are stored uncompressed are read at once. Their list stays
  -- below 1 GB.
  small constant integer := least(8000, 200000000 / greatest(max_rows, 1));
  at_once boolean := true;
  matched bigint;
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
      into last_id, matched, ids, channel_list, keys, payloads, header_list, times, replays, partition_list, whole
      from (
        select s.id, s.channel, s.key, s.payload, s.headers, s.created_at,
          case when s.id <= complete_through then true else pg_visible_in_snapshot(s.xid, started) end as is_replay,
          100 + s.payload_size + coalesce(s.headers_size, 0) as stored,
          s.payload_size <= small and pg_column_compression(s.payload) is null
            and (s.headers is null or s.headers_size <= small and pg_column_compression(s.headers) is null) as plain
        from (
          -- The inner limit bounds the scan. Without it the planner sorts the whole log.
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
      -- A number of ten bytes may be written in 130,000 digits. Run again without payloads, to find the rows.
      if not at_once then
        raise;
      end if;
      at_once := false;
    end;
  end loop;
  taken := matched;
  while not whole loop
    begin
      -- Stored bytes are usually at most the bytes sent, and are known without fetching or unpacking a value.
      -- So they bound how much is unpacked to find the true size.
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
              -- Row by row: the planner cannot estimate how many ids come.
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
  if taken < max_rows and taken = matched and target_max - after_id <= max_scanned then
    last_id := target_max;
  elsif taken < max_rows and taken = matched then
    select coalesce(
      (select l.id from hark.log l where l.id > after_id and l.id <= target_max
        order by l.id offset max_scanned - 1 limit 1),
      target_max) into last_id;
  end if;
  last_id := coalesce(last_id, after_id); -- every row found has been removed since
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
