-- Relays: consumers that publish elsewhere. The log knows what a relay has handled, and its target knows what
-- was published. Between the two lies what a crash leaves in doubt.

-- What a relay needs to know before it serves a partition: the identity of this install, and the place in the
-- target from which on it has to look for what an earlier worker has published and not stored as handled. A
-- place is a number that rises with each message of the target. `place` is the target's end now: where a new
-- relay begins. Without a partition it only looks whether another relay of this name is at work.
--
-- other: the target of a living worker of the same consumer, if it is not this one.
create or replace function hark.relay_place(consumer text, partition integer, target text, place bigint)
returns table (install uuid, known bigint, other text)
language plpgsql volatile security definer rows 1 set search_path = pg_catalog, pg_temp
as $$
begin
  select i.id into install from hark.install i;
  select r.target into other
  from hark.relays r
  join hark.partitions p on p.consumer = r.consumer and p.partition = r.partition
  join hark.crew w on w.consumer = r.consumer and w.owner = p.owner and w.lease_until > clock_timestamp()
  where r.consumer = $1 and r.target <> $3 and r.partition is distinct from $2
  limit 1;
  if $2 is not null and other is null then
    -- After a change of the number of partitions a partition may have no row: then the earliest of the others.
    select coalesce(
      (select r.place from hark.relays r where r.consumer = $1 and r.partition = $2 and r.target = $3),
      (select min(r.place) from hark.relays r where r.consumer = $1 and r.target = $3),
      $4
    ) into known;
    insert into hark.relays as r values ($1, $2, $3, known)
    on conflict on constraint relays_pkey do update set target = excluded.target, place = excluded.place
    where (r.target, r.place) is distinct from (excluded.target, excluded.place);
  end if;
  return next;
end
$$;
comment on function hark.relay_place(text, integer, text, bigint) is
  'For a relay: the id of the install, and from where on its target has to be looked through.';

-- Which of these notifications a consumer has not handled, as far as is stored, and the partition of each. A relay
-- asks it about what its target has: these must not be published again, and hold its place.
create or replace function hark.relay_unhandled(consumer text, ids bigint[])
returns table (partition integer, id bigint)
language sql volatile security definer set search_path = pg_catalog, pg_temp
-- Row by row, whatever the statistics say: there are few ids.
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
  with place as materialized (
    select p.partition, p.after_id, p.seen_nothing, p.seen_snapshot, p.target_snapshot, p.last_id
    from hark.places p where p.consumer = $1
  )
  select w.partition, w.id from hark.waiting w where w.consumer = $1 and w.id = any ($2)
  union
  select p.partition, l.id
  from hark.consumers c
  cross join hark.install i
  cross join unnest($2) g (id)
  cross join lateral (select l.id, l.xid, l.key, l.channel from hark.log l where l.id = g.id limit 1) l
  join place p on p.partition = hark.partition_of(l.key, l.id, c.partitions)
  where c.name = $1 and l.channel = any (c.channels)
    and not hark.passed(
      l.id, l.xid, p.after_id, p.seen_nothing, p.seen_snapshot, p.target_snapshot, p.last_id, i.rebased_through)
    and not exists (select from hark.done d where d.consumer = $1 and d.partition = p.partition and d.id = l.id)
$$;

-- Stores for partitions that all that was published to places up to these is also stored as handled. The place of a
-- partition that was claimed since is left: its new owner may have published behind it.
create or replace function hark.keep_relay_places(
  consumer text, target text, partitions integer[], epochs bigint[], places bigint[]
) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  update hark.relays r set place = g.place
  from unnest($3, $4, $5) g (partition, epoch, place)
  join hark.partitions p on p.consumer = $1 and p.partition = g.partition and p.epoch = g.epoch
  where r.consumer = $1 and r.target = $2 and r.partition = g.partition and r.place < g.place
$$;

-- The endpoints of a relay to webhooks that take no messages now, by name. With `required`, an unknown consumer is
-- refused. A relay that starts for the first time is not known yet.
create or replace function hark.relay_endpoints(consumer text, required boolean default false)
returns table (
  endpoint text, disabled boolean, failures integer, failing_since timestamptz, asked_again_at timestamptz, status integer,
  reason text
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if $2 then
    perform hark.require_consumer($1);
  end if;
  return query
  select e.endpoint, e.disabled, e.failures, e.failing_since, e.asked_again_at, e.status, e.reason
  from hark.endpoints e
  where e.consumer = $1
  order by e.endpoint collate "C";
end
$$;

-- Stores what a relay has learned of its endpoints: an array of {endpoint, disabled, failures, failing_ms, wait_ms, status,
-- reason}, and the names of those that take messages again. Only hark.redrive_endpoint enables one that is disabled.
create or replace function hark.keep_relay_endpoints(consumer text, failing json, recovered text[]) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  delete from hark.endpoints e where e.consumer = $1 and e.endpoint = any ($3) and not e.disabled;
  insert into hark.endpoints as e (consumer, endpoint, disabled, failures, failing_since, asked_again_at, status, reason)
  select $1, f.endpoint, f.disabled, f.failures, clock_timestamp() - make_interval(secs => f.failing_ms / 1000),
    case when not f.disabled then clock_timestamp() + make_interval(secs => f.wait_ms / 1000) end,
    f.status, left(f.reason, 10000)
  from json_to_recordset($2) as f (
    endpoint text, disabled boolean, failures integer, failing_ms double precision, wait_ms double precision,
    status integer, reason text
  )
  order by f.endpoint collate "C" -- in one order in all processes
  on conflict on constraint endpoints_pkey do update set
    disabled = excluded.disabled, failures = excluded.failures, failing_since = excluded.failing_since,
    asked_again_at = excluded.asked_again_at, status = excluded.status, reason = excluded.reason,
    changed_at = clock_timestamp()
  where not e.disabled;
end
$$;

-- Lets a relay ask an endpoint again that is failing or disabled. False if it is neither.
create or replace function hark.redrive_endpoint(consumer text, endpoint text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform hark.require_consumer($1);
  delete from hark.endpoints e where e.consumer = $1 and e.endpoint = $2;
  if found then
    perform hark.record_act('redrive', $1, null, format('endpoint %s', $2));
    return true;
  end if;
  return false;
end
$$;
