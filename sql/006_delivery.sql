-- Hark 006: what delivery to many workers keeps: who serves, what waits, what is given up.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (6, 'delivery');

-- What a consumer is belongs to its row, not to its workers: a change raises the generation and fences off
-- workers that were started with something else (hark.register).
alter table hark.consumers
  add column filter jsonb,
  add column transactional boolean not null default false,
  add column partitions integer not null default 1,
  add column generation bigint not null default 1,
  add column version integer not null default 0,   -- of its definition, by who deploys it: the highest wins
  add column paused_at timestamptz,
  -- Raised by whoever puts something into hark.waiting that is not the partition's owner.
  add column changes bigint not null default 0,
  -- A change of the number of partitions under way: every partition first reads to one common snapshot.
  add column next_partitions integer,
  add column barrier pg_snapshot,
  add column barrier_max bigint,
  add constraint filter_is_an_object check (jsonb_typeof(filter) = 'object'),
  add constraint partitions_are_1_to_1024 check (partitions between 1 and 1024),
  add constraint next_partitions_are_1_to_1024 check (next_partitions between 1 and 1024);

-- The processes that serve a consumer. A lease is the worker's, not the partition's, so that renewing it is
-- one update however many partitions it holds.
create table hark.workers (
  consumer text not null references hark.consumers on update cascade on delete cascade,
  owner uuid not null,
  session bigint,                -- advisory lock key held by its LISTEN session, where it has one
  lease_until timestamptz not null,
  joined_at timestamptz not null default clock_timestamp(),
  primary key (consumer, owner)
) with (fillfactor = 50);

alter table hark.partitions
  drop column owner_session,
  drop column lease_until,
  drop column failing_id,
  drop column attempts,
  -- How many owners in a row ended without giving it back, and did not get past what the first of them held.
  add column crashes integer not null default 0,
  -- The notification that is handled alone, to find out whether it is what ends them.
  add column trying_id bigint,
  -- The last one that was when an owner ended, and how many ended so in a row.
  add column suspect_id bigint,
  add column suspect_ends integer not null default 0,
  add column served_at timestamptz;
update hark.partitions set owner = null, epoch = epoch + 1;

-- What a partition's position has passed although it is not done with: failed and to be tried again, behind
-- such a one of the same key, handled for so long that others need not wait, or to be handled once more.
-- A success that comes at once never writes here.
create table hark.waiting (
  consumer text not null references hark.consumers on update cascade on delete cascade,
  id bigint not null,
  partition integer not null,
  key text,
  state text not null check (state in ('failed', 'behind', 'running', 'replay', 'retry')),
  attempts integer not null default 0,
  due_at timestamptz not null default clock_timestamp(),
  last_error text,
  failed_at timestamptz,
  -- A copy, where the log may not have it any more (tried again from the dead letters).
  channel text,
  payload jsonb,
  headers jsonb,
  created_at timestamptz,
  primary key (consumer, id)
);
create index waiting_by_partition on hark.waiting (consumer, partition, id);
create index waiting_by_id on hark.waiting (id);

-- Notifications given up, with a copy, as the log is cleaned.
create table hark.dead (
  consumer text not null references hark.consumers on update cascade on delete cascade,
  id bigint not null,
  channel text,
  key text,
  payload jsonb,
  headers jsonb,
  created_at timestamptz,
  attempts integer not null,
  error text,
  died_at timestamptz not null default clock_timestamp(),
  primary key (consumer, id)
);

-- What is done beyond a partition's position: by the transactions of a transactional consumer's handlers, or after it
-- had waited behind one that is still in hand.
create table hark.done (
  consumer text not null references hark.consumers on update cascade on delete cascade,
  partition integer not null,
  id bigint not null,
  primary key (consumer, partition, id)
);

-- Ranges of ids to be handled once more by one consumer; its workers move them to hark.waiting bit by bit.
create table hark.replays (
  number bigint generated always as identity primary key,
  consumer text not null references hark.consumers on update cascade on delete cascade,
  channels text[],               -- null: the consumer's
  next_id bigint not null,
  to_id bigint not null,
  -- Where the consumer's partitions were: what they had not passed then comes in its turn, not once more.
  positions hark.position[] not null default '{}',
  created_at timestamptz not null default clock_timestamp()
);

-- The partition that a notification belongs to. One key always lies in one; null keys have no order.
create function hark.partition_of(key text, id bigint, partitions integer) returns integer
language sql immutable
as $$
  select case when $3 operator(pg_catalog.=) 1 then 0 else (
    case when $1 is null then $2
      else ('x' operator(pg_catalog.||) pg_catalog.left(pg_catalog.md5($1), 8))::pg_catalog.bit(32)::pg_catalog.int8
    end operator(pg_catalog.%) $3)::pg_catalog.int4
  end
$$;
comment on function hark.partition_of(text, bigint, integer) is
  'The partition of a key: the first 4 bytes of its md5, modulo their number.';

-- Whether a notification passes a consumer's filter: { "payload": …, "headers": …, "key": ["a", "b"] }, of
-- which payload and headers are compared by containment (jsonb @>). Paths and values, never SQL.
create function hark.matches(filter jsonb, key text, payload jsonb, headers jsonb) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select ($1 -> 'payload' is null or $3 @> ($1 -> 'payload'))
    and ($1 -> 'headers' is null or coalesce($4, '{}') @> ($1 -> 'headers'))
    and ($1 -> 'key' is null or coalesce(($1 -> 'key') ? $2, false))
$$;

-- How large a payload is, unpacked; null where it is not delivered: over 64 MB, or over 256 MB as text. A jsonb can be
-- so large that PostgreSQL cannot write it out at all (1 GB), JavaScript cannot hold it (512 MB), or a reader would
-- take longer for it than it may and try again for ever: such a one becomes a dead letter instead.
create function hark.readable_size(payload jsonb) returns bigint
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  -- Of a value made here, not of one that is stored compressed.
  unpacked bigint := pg_column_size(jsonb_build_array(payload));
begin
  if unpacked > 67108864 then
    return null;
  end if;
  -- A character takes six in text at most.
  if unpacked > 44739242 and octet_length(payload::text) > 268435456 then
    return null;
  end if;
  return unpacked;
end
$$;

drop function hark.window_read(hark.position, text[], integer, bigint, integer, pg_snapshot);

-- Reads a page of the open window: its rows, and one more row, with a null id, that carries the position
-- after them, whether that is the window's end, and how many ids the window spans. A page ends at max_rows
-- rows, with the row that passes max_bytes, or after max_scanned rows that were looked at, so that a rare
-- channel returns promptly too. A row whose payload cannot be read as text comes with a null payload.
--
-- Only rows of the partitions in `held` come, of so many; one scan serves all that a worker holds.
--
-- VOLATILE, so that each statement sees what has committed by now: a row complete in `target` need not be
-- visible to the statement that called this function and its opening.
create function hark.window_read(
  p hark.position, channels text[], max_rows integer, max_bytes bigint, max_scanned integer,
  started pg_snapshot, filter jsonb default null, partitions integer default 1,
  held integer[] default null
) returns table (
  id bigint, channel text, key text, payload jsonb, headers jsonb, created_at timestamptz,
  is_replay boolean, partition integer, "position" hark.position, window_end boolean, window_span bigint
)
language plpgsql volatile security definer rows 500
set search_path = pg_catalog, pg_temp
-- A page is a range of the primary key, whatever the statistics say of a table that grows this fast.
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  finished xid8[];
  next_xid xid8 := pg_snapshot_xmax(p.seen);
  seen_nothing boolean := p.seen::text = '1:1:';
  complete_through bigint;
begin
  if p.incarnation is distinct from hark.incarnation() then
    raise exception 'the server has restarted after a crash since this window was opened'
      using errcode = 'HK004', hint = 'Load the stored position and open a new window.';
  end if;
  select i.rebased_through into complete_through from hark.install i;
  select coalesce(array_agg(t.xid), '{}') into finished
  from unnest(p.stragglers) t (xid) where pg_visible_in_snapshot(t.xid, p.target);
  return query
  with kept as materialized (
    -- Bytes as stored are at most those sent, and known without fetching or unpacking anything: they
    -- bound what is unpacked below to find the true size.
    select s.*,
      sum(100 + pg_column_size(s.payload) + coalesce(pg_column_size(s.headers), 0))
        over (order by s.id rows between unbounded preceding and 1 preceding) as stored_before
    from (
      -- The inner limit bounds the scan; without it the planner sorts the whole log.
      select l.* from hark.log l
      where l.id > p.last_id and l.id <= p.target_max
      order by l.id
      limit max_scanned
    ) s
    where case when s.id <= complete_through then seen_nothing
        else (s.xid >= next_xid or s.xid = any (finished)) and pg_visible_in_snapshot(s.xid, p.target)
      end
      and (channels is null or s.channel = any (channels))
      and (held is null or hark.partition_of(s.key, s.id, partitions) = any (held))
      and (filter is null or hark.matches(filter, s.key, s.payload, s.headers))
    order by s.id
    limit max_rows
  ),
  page as materialized (
    select s.*
    from (
      select k.*,
        sum(100 + coalesce(pg_column_size(k.headers), 0) + coalesce(k.bytes, 0))
          over (order by k.id rows between unbounded preceding and 1 preceding) as bytes_before
      from (
        select k.*,
          case when pg_column_size(k.payload) > 100000 then hark.readable_size(k.payload)
            when pg_column_compression(k.payload) is null then pg_column_size(k.payload)
            else octet_length(k.payload::text) end as bytes
        from kept k
        where coalesce(k.stored_before, 0) < max_bytes
        offset 0
      ) k
    ) s
    where coalesce(s.bytes_before, 0) < max_bytes
    order by s.id
  ),
  reach as (
    select case
      when c.rows = max_rows or c.rows < (select count(*) from kept) then c.last_id
      else coalesce(
        (select l.id from hark.log l where l.id > p.last_id and l.id <= p.target_max
          order by l.id offset max_scanned - 1 limit 1),
        p.target_max)
    end as last_id
    from (select count(*) as rows, max(k.id) as last_id from page k) c
  )
  select k.id, k.channel, k.key, case when k.bytes is not null then k.payload end, k.headers, k.created_at,
    case when k.id <= complete_through then true else pg_visible_in_snapshot(k.xid, started) end,
    hark.partition_of(k.key, k.id, partitions),
    null::hark.position, null, null
  from page k
  union all
  select null, null, null, null, null, null, null, null,
    row(p.seen, p.seen_max, p.floor, p.stragglers, p.lows, p.target, p.target_max, r.last_id,
      p.incarnation)::hark.position,
    r.last_id >= p.target_max, p.target_max - least(p.floor, p.last_id)
  from reach r;
end
$$;

revoke execute on all functions in schema hark from public;
