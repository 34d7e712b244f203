-- One page of a window, and which rows are in it.

-- Reads a page of a window: what `target` sees and `seen` does not, above the ids that the reader has nothing to do
-- with (after_id) and above the last id that it has read of this window (through; null: none yet). Returns the
-- notifications, the last id that is read now, whether the window ends there, and how many ids the window spans.
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
--   times           microseconds since 2000, 16 hexadecimal digits each, which are written quicker than decimal ones
--   replays         a 1 or 0 for each row, without separators
--   partition_list  joined by commas
--   problems        a JSON object from id to the reason, of the rows that cannot be read
-- A list is null if every row has the usual value: the channel `usual`, no key, no headers, a
-- replay, partition 0.
--
-- VOLATILE, so that each statement sees what has committed by then. A row complete in `target` need not be visible
-- to a statement that began before that mark was cut.
create or replace function hark.page(
  seen hark.marks, target hark.marks, through bigint, after_id bigint, channels text[], max_rows integer, max_bytes bigint,
  max_scanned integer, started hark.marks, filter jsonb default null, partitions integer default 1,
  held integer[] default null, usual text default null,
  out ids text, out channel_list text, out keys text, out payloads text, out header_list text, out times text,
  out replays text, out partition_list text, out problems text, out last_id bigint, out window_end boolean, out window_span bigint
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
-- A page must be a range scan of the primary key, whatever statistics say about a table that grows this fast.
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  -- Variables, because fields of the marks would be looked up again for each row.
  finished xid8[]; -- null if there are none
  next_xid constant xid8 := seen.upper;
  seen_nothing constant boolean := seen.number = 0;
  ended constant pg_snapshot := target.snapshot;
  begun constant pg_snapshot := started.snapshot;
  -- True if all of the window was there when the reader started: then no row needs a look.
  is_old constant boolean := ended::text = begun::text or pg_snapshot_xmax(ended) <= pg_snapshot_xmin(begun);
  top constant bigint := target.max_id;
  bottom bigint := seen.floor;
  read_id bigint := through;
  complete_through bigint;
  here uuid;
  -- More than this in one list would be too much for PostgreSQL or for JavaScript.
  bytes_wanted bigint := least(max_bytes, 200000000);
  -- Payloads up to this many bytes that are stored uncompressed are read at once. Their list stays
  -- below 1 GB.
  small constant integer := least(8000, 200000000 / greatest(max_rows, 1));
  -- Comparing with each of many channels would take longer than the rest of the scan.
  many constant boolean := cardinality(channels) > 8;
  -- An array in a variable is copied each time that it is looked at.
  sole constant text := case when cardinality(channels) = 1 then channels[1] end;
  converted constant boolean := getdatabaseencoding() <> 'UTF8'; -- as hark.is_converted, which takes longer
  -- False once a row turns out not to be readable. Then each row is read by itself, to find it.
  at_once boolean := true;
  scanned integer := max_scanned;
  matched bigint;
  scanned_to bigint;
  whole boolean;
  r record;
  c record;
  kept integer[];
  texts text[];
  header_texts text[];
  bytes bigint;
  patience timestamptz;
  cut boolean;
begin
  -- The snapshot of such a transaction may be older than `target`: rows would be missing, and count as read.
  if not starts_with(current_setting('transaction_isolation'), 'read ') then
    raise exception 'reading needs READ COMMITTED, and this transaction is %',
      upper(current_setting('transaction_isolation'))
      using errcode = 'HK002', hint = 'Read in a READ COMMITTED transaction of its own.';
  end if;
  -- A standby cannot read the unlogged table of the incarnation. There both marks are looked for.
  if pg_is_in_recovery() then
    select i.rebased_through into complete_through from hark.install i;
  else
    select i.rebased_through, n.id into complete_through, here from hark.install i left join hark.incarnation n on true;
  end if;
  if here is null or here <> seen.life or here <> target.life then
    perform hark.require_marks(seen, target);
  end if;
  if seen.number = target.number and seen.life = target.life then
    last_id := top;
    window_end := true;
    window_span := 0;
    return;
  end if;
  if cardinality(seen.stragglers) > 0 then
    select array_agg(t.xid), least(seen.floor, min(t.low)) into finished, bottom
    from unnest(seen.stragglers, seen.lows) t (xid, low) where pg_visible_in_snapshot(t.xid, ended);
  end if;
  bottom := greatest(bottom, after_id);
  read_id := coalesce(read_id, bottom);
  if filter ?| '{payload,headers}' then
    select count(*) into scanned
    from (
      select sum(pg_column_size(l.payload) + coalesce(pg_column_size(l.headers), 0))
        over (order by l.id rows between unbounded preceding and 1 preceding) as stored_before
      from (
        select l.id, l.payload, l.headers from hark.log l
        where l.id > read_id and l.id <= top
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
        encode(string_agg(timestamptz_send(k.created_at), ''), 'hex'),
        case when not bool_and(k.is_replay) then
          string_agg(case when k.is_replay then '1' else '0' end, '') filter (where not is_old) end,
        string_agg(hark.partition_of(k.key, k.id, partitions)::text, ',') filter (where partitions > 1),
        at_once and coalesce(sum(k.stored) <= bytes_wanted and bool_and(k.plain), true),
        -- Of the same snapshot. A later statement would count other rows: if some have been removed in between, it would
        -- pass rows that were not scanned, and they would be lost. It is evaluated in this case only.
        case when count(*) < max_rows and top - read_id > scanned then coalesce(
          (select l.id from hark.log l where l.id > read_id and l.id <= top
            order by l.id offset scanned - 1 limit 1),
          top) end
      into last_id, matched, ids, channel_list, keys, payloads, header_list, times, replays, partition_list, whole, scanned_to
      from (
        select f.id, f.channel, f.key, f.payload, f.headers, f.created_at,
          is_old or case when f.id <= complete_through then true else pg_visible_in_snapshot(f.xid, begun) end as is_replay,
          100 + f.payload_size + coalesce(f.headers_size, 0) as stored,
          f.payload_size <= small and pg_column_compression(f.payload) is null
            and (f.headers is null or f.headers_size <= small and pg_column_compression(f.headers) is null) as plain
        from (
          -- Sizes are computed here: once, and only of the rows that are given.
          select s.*, pg_column_size(s.payload) as payload_size, pg_column_size(s.headers) as headers_size
          from (
            -- The inner limit bounds the scan. Without it the planner sorts the whole log.
            select l.xid, l.id, l.channel, l.key, l.payload, l.headers, l.created_at
            from hark.log l
            where l.id > read_id and l.id <= top
            order by l.id
            limit scanned
          ) s
          where case when s.id <= complete_through then seen_nothing
              else (s.xid >= next_xid or s.xid = any (finished)) and pg_visible_in_snapshot(s.xid, ended)
            end
            and case when sole is not null then s.channel = sole when many then s.channel in (select unnest(channels))
              else channels is null or s.channel = any (channels) end
            and (held is null or hark.partition_of(s.key, s.id, partitions) = any (held))
            and (filter is null or case when at_once then hark.matches(filter, s.key, s.payload, s.headers)
              else hark.may_match(filter, s.key, s.payload, s.headers) end)
          order by s.id
          limit max_rows
        ) f
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
    kept := '{}'; texts := '{}'; header_texts := '{}'; bytes := 0;
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
        string_agg(substr(times, 16 * f.place::integer - 15, 16), ''), string_agg(f.replay, ''), string_agg(f.partition, ',')
      into ids, keys, times, replays, partition_list
      from rows from (
        string_to_table(ids, ','), json_array_elements_text(keys::json),
        string_to_table(replays, null), string_to_table(partition_list, ',')
      ) with ordinality f (id, key, replay, partition, place)
      where f.place = any (kept);
    end if;
  end if;
  if cut then
    null; -- the next page begins after the last row of this one
  elsif matched < max_rows then
    last_id := coalesce(scanned_to, top);
  end if;
  last_id := coalesce(last_id, read_id); -- every row found has been removed since
  window_end := last_id >= top;
  window_span := top - bottom;
end
$$;

-- What the owner of partitions reads next, for hark.page: up to which mark, and what the consumer reads. That is the mark
-- given; in a new window without one, where the log is now, as a private mark. If that sees what `seen` sees, it is `seen`.
--   content  that mark as readers hold it (hark.content_of), which each call of a function would cost again. Null if it is the
--            mark given.
--   bounded  the number of partitions is changing: a new window ends where all partitions first read to (the
--            barrier), whatever mark is given
create or replace function hark.window(
  consumer text, owner uuid, held integer[], epochs bigint[], wanted hark.marks, is_new boolean,
  seen hark.marks default null
) returns table (
  target hark.marks, content text, channels text[], filter jsonb, partitions integer, bounded boolean
)
language plpgsql volatile security definer rows 1 set search_path = pg_catalog, pg_temp set datestyle = 'ISO'
-- Planning would take longer than running.
set plan_cache_mode = force_generic_plan
as $$
declare
  served integer;
  barrier bigint;
begin
  if cardinality(held) = 1 then
    -- Of all that a look has to prepare, the list would be a tenth.
    select 1, k.barrier, k.channels, k.filter, k.partitions
    into served, barrier, channels, filter, partitions
    from hark.consumers k, hark.partitions s
    where k.name = $1 and s.consumer = $1 and s.partition = held[1] and s.epoch = epochs[1] and s.owner = $2;
  else
    select (
        -- One by one: the planner cannot estimate how many there are.
        select count(*) from unnest(held, epochs) h (partition, epoch)
        cross join lateral (
          select from hark.partitions s
          where s.consumer = $1 and s.partition = h.partition and s.epoch = h.epoch and s.owner = $2 limit 1
        ) s
      ), k.barrier, k.channels, k.filter, k.partitions
    into served, barrier, channels, filter, partitions
    from hark.consumers k where k.name = $1;
  end if;
  if served is distinct from cardinality(held) then
    perform hark.raise_fenced($1, $3);
  end if;
  bounded := barrier is not null;
  if is_new and bounded then
    select (k.mark).* into strict target from hark.kept_marks k where k.number = barrier;
    content := target::text;
  elsif wanted is null then
    target := hark.new_mark(false, false, true, seen);
    content := target::text;
  else
    target := wanted;
  end if;
  return next;
end
$$;

-- hark.window for several consumers that stand at one place and have the same number of partitions, so that one page
-- serves all of them: what they read next, up to which mark, and the channels of all. It returns no row if none may.
--   members  a JSON array: for each its consumer, its owner, its channels, and the partitions that it holds with their
--            epochs (held, epochs)
--   routes   a 1 or 0 for each, without separators: whether the page is also for this one. It is not if the member no
--            longer serves all that it holds, if its consumer has another definition or number of partitions by now, has
--            a filter, or has a barrier. Such a member reads by itself, and learns the reason there.
create or replace function hark.common_window(members json, partitions integer, wanted hark.marks, seen hark.marks)
returns table (target hark.marks, channels text[], routes text)
language plpgsql volatile security definer rows 1 set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set jit = off
as $$
#variable_conflict use_column
begin
  -- One statement: that a member serves its partitions, and under which definition.
  with asked as materialized (
    select m.n, k.channels,
      k.name is not null and k.barrier is null and k.filter is null and k.partitions = $2
      and (k.channels = m.channels or hark.as_set(k.channels) = hark.as_set(m.channels))
      -- One by one: the planner cannot estimate how many there are.
      and cardinality(m.held) = (
        select count(*) from unnest(m.held, m.epochs) h (partition, epoch)
        cross join lateral (
          select from hark.partitions s
          where s.consumer = m.consumer and s.partition = h.partition and s.epoch = h.epoch and s.owner = m.owner limit 1
        ) s
      ) as fits
    from rows from (json_to_recordset(members) as (
      consumer text, owner uuid, channels text[], held integer[], epochs bigint[]
    )) with ordinality m (consumer, owner, channels, held, epochs, n)
    left join lateral (select c.* from hark.consumers c where c.name = m.consumer limit 1) k on true
  )
  select (select array_agg(distinct u.name) from asked a cross join lateral unnest(a.channels) u (name) where a.fits),
    string_agg(case when a.fits then '1' else '0' end, '' order by a.n)
  into channels, routes
  from asked a;
  if channels is null then
    return;
  elsif wanted is null then
    target := hark.new_mark(false, false, true, seen);
  else
    target := wanted;
  end if;
  return next;
end
$$;
