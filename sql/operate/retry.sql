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

-- Has a consumer try notifications at once: those that wait for their next attempt, and dead letters, which
-- start with their first attempt. Takes all of them unless conditions are given. Returns how many. The order
-- within a key stays: a notification behind a failed one of its key comes after it, so the failed one is
-- tried at once, too. A dead letter of which only the id is left stays. Only dead letters match died_after and
-- died_before.
create or replace function hark.retry(
  consumer text, ids bigint[] default null, channel text default null, key text default null,
  error text default null, from_id bigint default null, to_id bigint default null,
  died_after timestamptz default null, died_before timestamptz default null, max_rows bigint default null,
  kind text default null
) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  c hark.consumers;
  died boolean := $8 is not null or $9 is not null;
  hurried bigint := 0;
  moved bigint := 0;
begin
  perform hark.check_dead($1, $10, null);
  perform hark.check_kind($11, died);
  c := hark.changed($1);
  if $11 is distinct from 'dead' and not died then
    -- Held against acknowledgements, which change the same rows in another order.
    perform from hark.partitions s where s.consumer = $1 order by s.partition for update;
    with chosen as materialized (
      select m.its_id as id from hark.waiting_matching($1, $2, $3, $4, $5, $6, $7, $10) m
    ),
    heads as (
      select f.id from hark.waiting f
      where f.consumer = $1 and f.state in ('failed', 'newer') and f.key in (
        select b.key from hark.waiting b join chosen n on n.id = b.id where b.consumer = $1 and b.state = 'behind'
      )
    ),
    changed as (
      update hark.waiting w set due_at = least(w.due_at, clock_timestamp()), hurried = c.changes
      where w.consumer = $1 and w.id in (select n.id from chosen n union select f.id from heads f)
    )
    select count(*) into hurried from chosen;
  end if;
  if $11 is distinct from 'waiting' then
    with gone as (
      delete from hark.dead d
      using hark.dead_matching($1, $2, $3, $4, $5, $6, $7, $8, $9, $10 - hurried, null) m
      where d.consumer = m.whose and d.id = m.its_id
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
    select count(*) into moved from again;
  end if;
  if hurried + moved > 0 then
    perform hark.record_act('retry', $1, hurried + moved, hark.chosen_by($2, $3, $4, $5, $6, $7, $8, $9, $11));
  end if;
  return hurried + moved;
end
$$;
comment on function hark.retry is
  'Has a consumer try waiting notifications and dead letters at once; returns how many.';

-- Gives notifications up for good: those that wait for their next attempt, and dead letters. Takes all of them
-- unless conditions are given. Returns how many. What waits behind a discarded one of its key goes on. A
-- handler that runs for one goes on to its end, and is not called again.
create or replace function hark.discard(
  consumer text, ids bigint[] default null, channel text default null, key text default null,
  error text default null, from_id bigint default null, to_id bigint default null,
  died_after timestamptz default null, died_before timestamptz default null, max_rows bigint default null,
  kind text default null
) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  died boolean := $8 is not null or $9 is not null;
  given_up bigint := 0;
  removed bigint := 0;
begin
  perform hark.check_dead($1, $10, null);
  perform hark.check_kind($11, died);
  perform hark.changed($1);
  if $11 is distinct from 'dead' and not died then
    perform from hark.partitions s where s.consumer = $1 order by s.partition for update;
    with gone as (
      delete from hark.waiting w
      using hark.waiting_matching($1, $2, $3, $4, $5, $6, $7, $10) m
      where w.consumer = $1 and w.id = m.its_id
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
    select count(*) into given_up from gone;
  end if;
  if $11 is distinct from 'waiting' then
    delete from hark.dead d
    using hark.dead_matching($1, $2, $3, $4, $5, $6, $7, $8, $9, $10 - given_up, null) m
    where d.consumer = m.whose and d.id = m.its_id;
    get diagnostics removed = row_count;
  end if;
  if given_up + removed > 0 then
    perform hark.record_act('discard', $1, given_up + removed, hark.chosen_by($2, $3, $4, $5, $6, $7, $8, $9, $11));
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
