-- Retry or discard what a consumer has failed on: notifications that wait for their next attempt, and dead
-- letters.

-- The waiting notifications that match, by id. `error` is a part of the last error's text; an empty `ids`
-- matches none.
create or replace function hark.waiting_matching(
  consumer text, ids bigint[], channel text, key text, error text, from_id bigint, to_id bigint, max_rows bigint
) returns table (its_id bigint)
language sql volatile security definer rows 100 set search_path = pg_catalog, pg_temp
as $$
  select w.id from hark.waiting w
  where w.consumer = $1 and ($2 is null or w.id = any ($2))
    and ($3 is null or coalesce(w.channel, (select l.channel from hark.log l where l.id = w.id)) = $3)
    and ($4 is null or w.key = $4)
    and ($5 is null or strpos(coalesce(w.last_error, ''), $5) > 0)
    and ($6 is null or w.id >= $6) and ($7 is null or w.id <= $7)
  order by w.id
  limit $8
$$;

-- Refuses a kind that is none, and a time of dying for notifications that have not died.
create or replace function hark.check_kind(kind text, died boolean) returns void
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
  if kind not in ('waiting', 'dead') then
    raise exception 'kind is "%"', kind
      using errcode = 'HK006', hint = 'Give waiting or dead, or null for both.';
  end if;
  if kind = 'waiting' and died then
    raise exception 'a waiting notification has no time at which it was given up'
      using errcode = 'HK006', hint = 'Leave out died_after and died_before, or take dead letters.';
  end if;
end
$$;

-- The next page of what hark.retry or hark.discard takes, of one kind: the ids that match, from from_id on. It
-- ends at max_rows, or with the dead letter that passes max_bytes as stored. through_id is the id to go on
-- behind; null if there is no further page.
create or replace function hark.failures_page(
  consumer text, ids bigint[], channel text, key text, error text, from_id bigint, to_id bigint,
  died_after timestamptz, died_before timestamptz, kind text, max_rows bigint, max_bytes bigint,
  out its_ids bigint[], out through_id bigint
)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  matching bigint;
begin
  perform hark.check_dead($1, $11, null, $5);
  perform hark.check_kind($10, $8 is not null or $9 is not null);
  if $10 = 'waiting' then
    its_ids := array(select m.its_id from hark.waiting_matching($1, $2, $3, $4, $5, $6, $7, $11) m);
    matching := cardinality(its_ids);
  else
    select coalesce(array_agg(m.its_id order by m.its_id) filter (where $12 is null or m.size_before < $12), '{}'), count(*)
    into its_ids, matching
    from (
      select m.its_id,
        coalesce(sum(coalesce(pg_column_size(d.payload), 0)) over (
          order by m.its_id rows between unbounded preceding and 1 preceding), 0) as size_before
      from hark.dead_matching($1, $2, $3, $4, $5, $6, $7, $8, $9, $11, null) m
      join hark.dead d on d.consumer = m.whose and d.id = m.its_id
    ) m;
  end if;
  if cardinality(its_ids) < matching or matching = $11 then
    through_id := its_ids[cardinality(its_ids)];
  end if;
end
$$;

-- One step of hark.retry: a page of notifications of one kind, in a transaction of its own. through_id is the
-- id to go on behind, by from_id; null after the last page.
create or replace function hark.retry_page(
  consumer text, ids bigint[], channel text, key text, error text, from_id bigint, to_id bigint,
  died_after timestamptz, died_before timestamptz, kind text, max_rows bigint, max_bytes bigint default null,
  out retried bigint, out through_id bigint
)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  c hark.consumers;
  page record;
begin
  -- Looked for before anything is locked.
  select p.* into page from hark.failures_page($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) p;
  through_id := page.through_id;
  retried := 0;
  if page.its_ids = '{}' then
    return;
  end if;
  c := hark.changed($1);
  if $10 = 'waiting' then
    -- Held against acknowledgements, which change the same rows in another order.
    perform from hark.partitions s where s.consumer = $1 order by s.partition for update;
    -- As joins: looking each row up in a long array takes long.
    with chosen as materialized (select n.id from unnest(page.its_ids) n (id)),
    keys as materialized (
      select distinct b.key from chosen n join hark.waiting b on b.consumer = $1 and b.id = n.id where b.state = 'behind'
    ),
    heads as materialized (
      select f.id from hark.waiting f join keys k on k.key = f.key
      where f.consumer = $1 and f.state in ('failed', 'newer')
    ),
    changed as (
      update hark.waiting w set due_at = least(w.due_at, clock_timestamp()), hurried = c.changes
      from (select n.id, true as is_chosen from chosen n
        union all select f.id, false from heads f where f.id not in (select n.id from chosen n)) m
      where w.consumer = $1 and w.id = m.id
      returning m.is_chosen
    )
    select count(*) into retried from changed w where w.is_chosen;
  else
    with gone as (
      delete from hark.dead d
      where d.consumer = $1 and d.id = any (page.its_ids)
        and (d.channel is not null or exists (select from hark.log l where l.id = d.id))
      returning d.*
    ),
    again as (
      insert into hark.waiting (consumer, id, partition, key, state, last_error, failed_at,
        channel, payload, headers, created_at)
      select $1, g.id, hark.partition_of(n.key, g.id, c.partitions), n.key, 'retry', g.error, g.died_at,
        n.channel, n.payload, n.headers, n.created_at
      from gone g
      cross join lateral (
        select g.channel, g.key, g.payload, g.headers, g.created_at where g.channel is not null
        union all
        select l.channel, l.key, l.payload, l.headers, l.created_at from hark.log l
        where l.id = g.id and g.channel is null
      ) n
      -- It already waits, for a replay.
      on conflict do nothing
      returning id
    )
    select count(*) into retried from again;
  end if;
  if retried > 0 then
    perform hark.record_act('retry', $1, retried, hark.chosen_by($2, $3, $4, $5, $6, $7, $8, $9, $10));
  end if;
end
$$;

-- Has a consumer try notifications at once: those that wait for their next attempt, and dead letters, which
-- start with their first attempt. Takes all of them unless conditions are given. Returns how many. The order
-- within a key stays: a notification behind a failed one of its key comes after it, so the failed one is
-- tried at once, too. A dead letter of which only the id is left stays. Only dead letters match died_after and
-- died_before.
--
-- All in one transaction, which holds up the consumer. For hundreds of thousands, hark.retry_page takes a page
-- at a time.
create or replace function hark.retry(
  consumer text, ids bigint[] default null, channel text default null, key text default null,
  error text default null, from_id bigint default null, to_id bigint default null,
  died_after timestamptz default null, died_before timestamptz default null, max_rows bigint default null,
  kind text default null
) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  hurried bigint := 0;
  moved bigint := 0;
begin
  perform hark.check_kind($11, $8 is not null or $9 is not null);
  if $11 is distinct from 'dead' and $8 is null and $9 is null then
    select p.retried into hurried from hark.retry_page($1, $2, $3, $4, $5, $6, $7, null, null, 'waiting', $10) p;
  end if;
  if $11 is distinct from 'waiting' and ($10 is null or hurried < $10) then
    select p.retried into moved from hark.retry_page($1, $2, $3, $4, $5, $6, $7, $8, $9, 'dead', $10 - hurried) p;
  end if;
  return hurried + moved;
end
$$;
comment on function hark.retry is
  'Has a consumer try waiting notifications and dead letters at once; returns how many.';

-- One step of hark.discard, as hark.retry_page is of hark.retry.
create or replace function hark.discard_page(
  consumer text, ids bigint[], channel text, key text, error text, from_id bigint, to_id bigint,
  died_after timestamptz, died_before timestamptz, kind text, max_rows bigint, max_bytes bigint default null,
  out discarded bigint, out through_id bigint
)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  page record;
begin
  select p.* into page from hark.failures_page($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) p;
  through_id := page.through_id;
  discarded := 0;
  if page.its_ids = '{}' then
    return;
  end if;
  perform hark.changed($1);
  if $10 = 'waiting' then
    perform from hark.partitions s where s.consumer = $1 order by s.partition for update;
    with gone as (
      delete from hark.waiting w where w.consumer = $1 and w.id = any (page.its_ids)
      returning w.id, w.partition
    ),
    -- The position may not have passed it yet: the next worker must not read it again.
    done as (
      insert into hark.done (consumer, partition, id)
      select $1, g.partition, g.id
      from gone g
      join hark.places s on s.consumer = $1 and s.partition = g.partition
      join hark.log l on l.id = g.id
      cross join hark.install i
      where not hark.passed(
        l.id, l.xid, s.after_id, s.seen_nothing, s.seen_snapshot, s.target_snapshot, s.last_id, i.rebased_through)
      on conflict do nothing
    )
    select count(*) into discarded from gone;
  else
    delete from hark.dead d where d.consumer = $1 and d.id = any (page.its_ids);
    get diagnostics discarded = row_count;
  end if;
  if discarded > 0 then
    perform hark.record_act('discard', $1, discarded, hark.chosen_by($2, $3, $4, $5, $6, $7, $8, $9, $10));
  end if;
end
$$;

-- Gives notifications up for good: those that wait for their next attempt, and dead letters. Takes all of them
-- unless conditions are given. Returns how many. What waits behind a discarded one of its key goes on. A
-- handler that runs for one goes on to its end, and is not called again. All in one transaction, as hark.retry.
create or replace function hark.discard(
  consumer text, ids bigint[] default null, channel text default null, key text default null,
  error text default null, from_id bigint default null, to_id bigint default null,
  died_after timestamptz default null, died_before timestamptz default null, max_rows bigint default null,
  kind text default null
) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  given_up bigint := 0;
  removed bigint := 0;
begin
  perform hark.check_kind($11, $8 is not null or $9 is not null);
  if $11 is distinct from 'dead' and $8 is null and $9 is null then
    select p.discarded into given_up from hark.discard_page($1, $2, $3, $4, $5, $6, $7, null, null, 'waiting', $10) p;
  end if;
  if $11 is distinct from 'waiting' and ($10 is null or given_up < $10) then
    select p.discarded into removed
    from hark.discard_page($1, $2, $3, $4, $5, $6, $7, $8, $9, 'dead', $10 - given_up) p;
  end if;
  return given_up + removed;
end
$$;
comment on function hark.discard is
  'Removes waiting notifications and dead letters of a consumer for good; returns how many.';

-- Where notifications stand for a consumer: waiting, dead, handled, unread, foreign (not of its channels or
-- its filter) or absent (not in the log).
create or replace function hark.whereabouts(consumer text, ids bigint[]) returns table (id bigint, place text)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform hark.require_consumer($1);
  return query
  select n.id,
    case
      when exists (select from hark.waiting w where w.consumer = $1 and w.id = n.id) then 'waiting'
      when exists (select from hark.dead d where d.consumer = $1 and d.id = n.id) then 'dead'
      else coalesce((
        select case
          when l.channel <> all (c.channels)
            or c.filter is not null and not hark.may_match(c.filter, l.key, l.payload, l.headers) then 'foreign'
          when hark.passed(
              l.id, l.xid, s.after_id, s.seen_nothing, s.seen_snapshot, s.target_snapshot, s.last_id, i.rebased_through)
            or exists (select from hark.done d where d.consumer = $1 and d.partition = s.partition and d.id = l.id)
            then 'handled'
          else 'unread' end
        from hark.log l
        join hark.consumers c on c.name = $1
        join hark.places s on s.consumer = $1 and s.partition = hark.partition_of(l.key, l.id, c.partitions)
        cross join hark.install i
        where l.id = n.id
      ), 'absent')
    end
  from unnest(ids) n (id) order by n.id;
end
$$;
comment on function hark.whereabouts is
  'Where notifications stand for a consumer: waiting, dead, handled, unread, foreign or absent.';
