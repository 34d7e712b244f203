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

-- As hark.matches. A notification that cannot be compared passes, so that its reader finds it and gives it up.
create or replace function hark.may_match(filter jsonb, key text, payload jsonb, headers jsonb) returns boolean
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
  return hark.matches($1, $2, $3, $4);
exception when others then
  if not hark.is_of_a_value(sqlstate) then
    raise;
  end if;
  return true;
end
$$;

-- Whether an error is about the value that was read, not about the server or the session: bytes that are no
-- text (22), a limit of PostgreSQL (54), stored bytes that are damaged (XX).
create or replace function hark.is_of_a_value(state text) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp
as $$ select left($1, 2) in ('22', '54', 'XX') $$;

-- Whether text has to be converted for a reader, which is always UTF-8. A database of the encoding SQL_ASCII
-- may hold bytes that are no UTF-8. Some encodings have characters that UTF-8 has not.
create or replace function hark.is_converted() returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$ select getdatabaseencoding() <> 'UTF8' $$;

-- Text that every reader can receive: the text itself. If it cannot be converted to UTF-8, its bytes with
-- those above 127 in octal.
create or replace function hark.sendable(value text) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if hark.is_converted() then
    perform convert_to(value, 'UTF8');
  end if;
  return value;
exception when character_not_in_repertoire or untranslatable_character then
  return encode(convert_to(value, getdatabaseencoding()), 'escape');
end
$$;

-- The contents of a notification as text, or why they cannot be read.
--
-- The limits keep a reader from asking for what it never gets: PostgreSQL cannot write out more than 1 GB, and
-- JavaScript cannot hold more than 512 MB in one text. What cannot be read becomes a dead letter. So one such
-- row never ends its reader.
create or replace function hark.contents(
  payload jsonb, headers jsonb, out payload_text text, out headers_text text, out problem text
)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  -- Measure values built here: the stored ones may be compressed, at most to a 255th.
  if pg_column_size(payload) > 100000 and pg_column_size(jsonb_build_array(payload)) > 67108864 then
    problem := 'its payload is over 64 MB';
  elsif pg_column_size(headers) > 100000 and pg_column_size(jsonb_build_array(headers)) > 67108864 then
    problem := 'its headers are over 64 MB';
  else
    payload_text := payload::text;
    headers_text := headers::text;
    if coalesce(octet_length(payload_text), 0) + coalesce(octet_length(headers_text), 0) > 268435456 then
      problem := 'its payload and headers are over 256 MB as text';
    elsif hark.is_converted() then
      perform convert_to(payload_text, 'UTF8'), convert_to(headers_text, 'UTF8');
    end if;
  end if;
  if problem is not null then
    payload_text := null;
    headers_text := null;
  end if;
exception when others then
  if not hark.is_of_a_value(sqlstate) then
    raise;
  end if;
  payload_text := null;
  headers_text := null;
  problem := hark.sendable(sqlerrm) || ' (' || sqlstate || ')';
end
$$;

-- Reads a page of the open window. Returns its notifications, the position after them, whether the window
-- ends there, and how many ids the window spans.
--
-- A page ends at max_rows rows, with the row that passes max_bytes of text, after max_scanned scanned rows, or
-- after a second of unpacking, but with one row at least. The bound on scanned rows lets a read of a rare
-- channel return promptly. A filter has to unpack what it compares, so then the scanned rows also end with
-- max_bytes as stored. Only rows of the partitions in `held` are returned; `partitions` is their total number.
-- One scan serves all partitions that a worker owns.
--
-- The result is one row of lists. Passing values one by one from function to query to driver takes longer
-- than finding the rows.
--   ids             joined by commas
--   channel_list    a JSON object from id to channel, of the rows whose channel is not `usual`
--   keys            a JSON array
--   payloads        JSON values joined by line breaks, which JSON as written here does not contain; an empty
--                   one cannot be read
--   header_list     the same; an empty one means no headers
--   times           in microseconds since 1970, joined by commas
--   replays         a 1 or 0 for each row, without separators
--   partition_list  joined by commas
--   problems        a JSON object from id to the reason, of the rows that cannot be read
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
  out replays text, out partition_list text, out problems text, out "position" hark.position, out window_end boolean, out window_span bigint,
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
  -- More than this in one list would be too much for PostgreSQL or for JavaScript.
  bytes_wanted bigint := least(max_bytes, 200000000);
  -- Payloads up to this many bytes that are stored uncompressed are read at once. Their list stays
  -- below 1 GB.
  small constant integer := least(8000, 200000000 / greatest(max_rows, 1));
  -- Comparing with each of many channels would take longer than the rest of the scan.
  many constant boolean := cardinality(channels) > 8;
  converted constant boolean := hark.is_converted();
  -- False once a row turns out not to be readable. Then each row is read by itself, to find it.
  at_once boolean := true;
  scanned integer := max_scanned;
  matched bigint;
  whole boolean;
  last_id bigint;
  r record;
  c record;
  kept integer[] := '{}';
  texts text[] := '{}';
  header_texts text[] := '{}';
  bytes bigint := 0;
  patience timestamptz;
  cut boolean := false;
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
  if filter ?| '{payload,headers}' then
    select count(*) into scanned
    from (
      select sum(pg_column_size(l.payload) + coalesce(pg_column_size(l.headers), 0))
        over (order by l.id rows between unbounded preceding and 1 preceding) as stored_before
      from (
        select l.id, l.payload, l.headers from hark.log l
        where l.id > after_id and l.id <= target_max
        order by l.id
        limit max_scanned
      ) l
    ) l
    where coalesce(l.stored_before, 0) < bytes_wanted;
    scanned := greatest(scanned, 1);
  end if;
  loop
    begin
      select max(k.id), count(*), string_agg(k.id::text, ','),
        json_object_agg(k.id, case when at_once then k.channel else hark.sendable(k.channel) end)
          filter (where k.channel is distinct from usual),
        case when count(k.key) > 0 then
          json_agg(case when at_once then k.key else hark.sendable(k.key) end)::text end,
        string_agg(case when k.plain and at_once then k.payload::text else '' end, E'\n'),
        case when count(k.headers) > 0 then
          string_agg(case when k.plain and at_once then coalesce(k.headers::text, '') else '' end, E'\n') end,
        string_agg((date_part('epoch', k.created_at) * 1000000)::bigint::text, ','),
        case when not bool_and(k.is_replay) then string_agg(case when k.is_replay then '1' else '0' end, '') end,
        case when partitions > 1 then string_agg(hark.partition_of(k.key, k.id, partitions)::text, ',') end,
        at_once and coalesce(sum(k.stored) <= bytes_wanted and bool_and(k.plain), true)
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
          limit scanned
        ) s
        where case when s.id <= complete_through then seen_nothing
            else (s.xid >= next_xid or s.xid = any (finished)) and pg_visible_in_snapshot(s.xid, target)
          end
          and (channels is null
            or case when many then s.channel in (select unnest(channels)) else s.channel = any (channels) end)
          and (held is null or hark.partition_of(s.key, s.id, partitions) = any (held))
          and (filter is null or case when at_once then hark.matches(filter, s.key, s.payload, s.headers)
            else hark.may_match(filter, s.key, s.payload, s.headers) end)
        order by s.id
        limit max_rows
      ) k;
      if converted and at_once then
        perform convert_to(concat(channel_list, keys, payloads, header_list), 'UTF8');
      end if;
      exit;
    exception when others then
      -- Such as a number of ten bytes that is written in 130,000 digits. Run again without payloads, to find
      -- the rows.
      if not at_once or not hark.is_of_a_value(sqlstate) then
        raise;
      end if;
      at_once := false;
    end;
  end loop;
  if not whole then
    -- Unpack one row after the other. How much a compressed value unpacks to is only known then.
    patience := clock_timestamp() + interval '1 second';
    for r in
      select l.id, l.channel, l.key, l.payload, l.headers, f.place
      from unnest(string_to_array(ids, ',')::bigint[]) with ordinality f (id, place)
      -- Row by row: the planner cannot estimate how many ids come.
      cross join lateral (select g.* from hark.log g where g.id = f.id offset 0) l
      order by f.place
    loop
      if bytes >= bytes_wanted or cardinality(kept) > 0 and clock_timestamp() > patience then
        cut := true;
        exit;
      end if;
      c := hark.contents(r.payload, r.headers);
      if not at_once and converted and c.problem is null
        and (hark.sendable(r.key) is distinct from r.key or hark.sendable(r.channel) is distinct from r.channel)
      then
        c.problem := 'its key or channel cannot be converted to UTF-8';
      end if;
      if c.problem is not null then
        problems := coalesce(problems || ',', '') || to_json(r.id::text) || ':' || to_json(c.problem);
      end if;
      last_id := r.id;
      kept := kept || r.place::integer;
      texts := texts || case when c.problem is null then coalesce(c.payload_text, '') else '' end;
      header_texts := header_texts || case when c.problem is null then coalesce(c.headers_text, '') else '' end;
      bytes := bytes + 100 + coalesce(octet_length(c.payload_text), 0) + coalesce(octet_length(c.headers_text), 0);
    end loop;
    problems := '{' || problems || '}';
    payloads := array_to_string(texts, E'\n');
    header_list := case when header_list is not null then array_to_string(header_texts, E'\n') end;
    if cardinality(kept) < matched then
      -- The rows after the page, and those that have been removed since.
      select string_agg(f.id, ','), case when keys is not null then json_agg(f.key)::text end,
        string_agg(f.micros, ','), string_agg(f.replay, ''), string_agg(f.partition, ',')
      into ids, keys, times, replays, partition_list
      from rows from (
        string_to_table(ids, ','), json_array_elements_text(keys::json), string_to_table(times, ','),
        string_to_table(replays, null), string_to_table(partition_list, ',')
      ) with ordinality f (id, key, micros, replay, partition, place)
      where f.place = any (kept);
    end if;
  end if;
  if cut then
    null; -- the next page begins after the last row of this one
  elsif matched < max_rows and target_max - after_id <= scanned then
    last_id := target_max;
  elsif matched < max_rows then
    select coalesce(
      (select l.id from hark.log l where l.id > after_id and l.id <= target_max
        order by l.id offset scanned - 1 limit 1),
      target_max) into last_id;
  end if;
  last_id := coalesce(last_id, after_id); -- every row found has been removed since
  "position" := row(p.seen, p.seen_max, p.floor, p.stragglers, p.lows, p.target, p.target_max, last_id, p.incarnation);
  window_end := last_id >= p.target_max;
  window_span := p.target_max - least(p.floor, p.last_id);
  if fence and window_end and matched > 0 and pg_current_xact_id_if_assigned() is null then
    if pg_current_xact_id() is not null then
      next := hark.window_advance("position");
    end if;
  end if;
end
$$;
