-- Registering consumers: their definition, and where they begin.

-- The channels of a consumer; null if there is no consumer of that name.
create or replace function hark.channels_of(consumer text) returns text[]
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$ select c.channels from hark.consumers c where c.name = $1 $$;

create or replace function hark.as_set(names text[]) returns text[]
language sql immutable set search_path = pg_catalog, pg_temp
as $$ select coalesce(array_agg(distinct n.name collate "C" order by n.name collate "C"), '{}') from unnest($1) n (name) $$;

-- Registers a consumer if there is none of that name. Otherwise the consumer's definition becomes the given one,
-- if its version is higher, or if it is equal and no worker with the stored one is alive. If that changes it, the
-- generation rises and every worker that was started with another definition is fenced off. So in a rolling
-- deployment no old worker moves past notifications that only the new workers want. A definition with a lower
-- version than the stored one changes nothing, so an old worker that restarts changes nothing either.
--
-- `given_up` are channels that the consumer no longer reads although it had unread notifications there, `unread`
-- is their number, counted up to 10,000, and `unread_from` is the first of them.
--
-- The start "position" is one from outside of the database, for hark.resume_position: `start_place` has its arguments.
-- `repeats` and `gap` are what that returns.
--
-- `skipped` is how many notifications of added channels without a start of their own the consumer has passed,
-- counted among the last 50,000 of the log, and `skipped_from` is the first of them.
--
-- A channel added to a known consumer is read from the consumer's position on, unless channel_starts has an
-- earlier start for it: [{"channel": ..., "kind": "beginning" | "id" | "time", "id": ..., "time": ...}]. The
-- number of partitions counts at registration only: see hark.repartition.
create or replace function hark.register(
  consumer text, channels text[], start_kind text default 'beginning',
  start_id bigint default null, start_time timestamptz default null,
  filter jsonb default null, transactional boolean default false, partitions integer default 1,
  channel_starts jsonb default null, version integer default 0, start_place text[] default null,
  out is_new boolean, out given_up text[], out unread bigint, out skipped bigint, out skipped_from bigint,
  out repeats boolean, out gap bigint, out unread_from bigint
)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  known hark.consumers;
  start record;
  earlier record;
  since bigint;
  added text[] := $2;
  gone text[];
  drawn bigint;
  target hark.marks;
  last_id bigint;
begin
  is_new := false;
  if partitions is null or partitions < 1 or partitions > 1024 then
    raise exception 'a consumer cannot have % partitions', coalesce(partitions::text, 'null')
      using errcode = 'HK006', hint = 'Give a number from 1 to 1024.';
  end if;
  if exists (
    select from hark.consumers c where c.name = $1 and hark.as_set(c.channels) = hark.as_set($2)
      and c.filter is not distinct from $6 and c.transactional = $7 and c.version >= $10
  ) then
    return;
  end if;
  perform hark.require_fresh_snapshot();
  -- Keeps hark.clean out. Otherwise a notification could be published and removed between this snapshot and
  -- this commit, and the consumer would miss it.
  lock table hark.consumers in row exclusive mode;
  drawn := hark.last_drawn_id();
  if start_kind = 'position' then
    start := hark.resume_position(
      start_place[1], start_place[2]::hark.marks, start_place[3]::hark.marks, start_place[4]::bigint, start_place[5]::bigint);
    target := start.target;
    last_id := start.last_id;
    repeats := start.repeats;
    gap := start.gap;
  else
    start := hark.start_position(start_kind, start_id, start_time);
  end if;
  insert into hark.consumers (name, channels, filter, transactional, partitions, version)
  values ($1, $2, $6, $7, $8, $10) on conflict do nothing;
  if found then
    perform hark.keep_marks(array[start.seen] || case when target.number is not null then array[target] end);
    insert into hark.partitions (consumer, partition, seen, target, last_id, after_id)
    select $1, n, (start.seen).number, target.number, coalesce(last_id, 0), start.after_id
    from generate_series(0, $8 - 1) n;
  else
    select * into known from hark.consumers c where c.name = $1 for no key update;
    if known.version > $10 then
      return;
    end if;
    update hark.consumers c set version = $10 where c.name = $1;
    if hark.as_set(known.channels) = hark.as_set($2) and known.filter is not distinct from $6
      and known.transactional = $7
    then
      return;
    end if;
    if known.version = $10 then
      perform hark.refuse_definition(known, $2);
    end if;
    gone := array(select n.name from unnest(known.channels) n (name) where n.name <> all ($2));
    select array_agg(distinct u.channel order by u.channel), count(*), min(u.id) into given_up, unread, unread_from
    from hark.unread_of($1, 10000) u where u.channel = any (gone);
    added := array(select n.name from unnest($2) n (name) where n.name <> all (known.channels));
    update hark.consumers c set channels = $2, filter = $6, transactional = $7, generation = c.generation + 1
    where c.name = $1;
    perform from hark.partitions s where s.consumer = $1 order by s.partition for update;
    update hark.partitions s set epoch = s.epoch + 1, owner = null where s.consumer = $1;
    perform hark.request_look($1);
    select count(*), min(l.id) into skipped, skipped_from
    from (select x.* from hark.log x order by x.id desc limit 50000) l
    cross join hark.install i
    join hark.places s on s.consumer = $1 and s.partition = hark.partition_of(l.key, l.id, known.partitions)
    where l.channel = any (added)
      and l.channel not in (select e.channel from jsonb_to_recordset(coalesce(channel_starts, '[]')) as e (channel text, kind text)
        where e.kind <> 'now')
      and hark.passed(
        l.id, l.xid, s.after_id, s.seen_nothing, s.seen_snapshot, s.target_snapshot, s.last_id, i.rebased_through);
  end if;
  for earlier in
    select * from jsonb_to_recordset(coalesce(channel_starts, '[]'))
      as e (channel text, kind text, id bigint, "time" timestamptz)
    where e.kind <> 'now' and e.channel = any (added)
  loop
    since := hark.start_id_of(earlier.kind, earlier.id, earlier."time");
    perform hark.add_replay($1, array[earlier.channel], since + 1, drawn);
  end loop;
  is_new := known.name is null;
end
$$;

-- Refuses another definition of the same version while a live worker has the known one, also if it sleeps. Two
-- programs that share an id by mistake would otherwise take the consumer from each other, and each change would skip
-- notifications.
create or replace function hark.refuse_definition(known hark.consumers, channels text[]) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  other text;
begin
  select coalesce(x.name, x.owner::text) into other
  from (
    select w.owner, w.name, w.joined_at from hark.crew w
    where w.consumer = known.name and w.lease_until > clock_timestamp()
      and case when w.session is null then true else not pg_try_advisory_xact_lock_shared(w.session) end
    union all
    -- One that sleeps serves it again when it is woken. Without LISTEN nothing tells whether it is still there.
    select a.owner, a.name, a.since from hark.asleep a
    where a.consumer = known.name and a.session is not null and a.wakes_at > clock_timestamp()
      and hark.is_asleep(a.session, a.wakes_at)
  ) x
  order by x.joined_at limit 1;
  if found then
    raise exception 'consumer "%" is served by worker % with another definition: its channels are %, and this one''s are %',
        known.name, other, array_to_string(hark.as_set(known.channels), ', '), array_to_string(hark.as_set(channels), ', ')
      using errcode = 'HK008', hint = format('Give the new definition a version above %s, stop the other workers, or choose another id.',
        known.version);
  end if;
end
$$;

-- Tells the workers of a consumer ('' means every consumer) to look at once for changes made for them.
create or replace function hark.request_look(consumer text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if coalesce(current_setting('hark.wake', true), '') <> 'off' and pg_notification_queue_usage() < 0.5 then
    perform pg_notify('hark_control', $1);
  end if;
end
$$;

create or replace function hark.raise_fenced(consumer text, partitions integer[]) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'this worker no longer serves all of the partitions % of consumer "%"',
    array_to_string($2, ', '), $1
    using errcode = 'HK005',
      hint = 'Another worker has taken over, or a seek or a removal has ended the claim. Claim them again.';
end
$$;

create or replace function hark.raise_no_consumer(consumer text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  known text;
begin
  select string_agg(format('"%s"', c.name), ', ' order by c.name) into known
  from (select k.name from hark.consumers k order by k.name limit 20) c;
  raise exception 'there is no consumer "%"', $1
    using errcode = 'HK007', hint = coalesce('Registered are: ' || known || '.', 'No consumer is registered yet.')
      || ' A consumer is registered when it first runs, and no longer once it is removed.';
end
$$;

create or replace function hark.require_consumer(consumer text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from hark.consumers c where c.name = $1) then
    perform hark.raise_no_consumer($1);
  end if;
end
$$;
