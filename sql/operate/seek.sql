-- Administering consumers: moving, replaying, pausing and removing them.
--
-- Locks are taken in this order: replays, the consumer's row, its partitions by number, kept marks by number, its
-- waiting notifications. Never lock the consumer's row FOR UPDATE before its partitions. A worker that acknowledges
-- holds partitions, and refers to the consumer's row by a foreign key.

-- Tells the workers of a consumer to look at what this transaction changes for them, and locks its row.
create or replace function hark.changed(consumer text) returns hark.consumers
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  c hark.consumers;
begin
  update hark.consumers k set changes = k.changes + 1 where k.name = $1 returning * into c;
  if not found then
    perform hark.raise_no_consumer($1);
  end if;
  perform hark.request_look($1);
  return c;
end
$$;

-- Moves a consumer, all its partitions at once:
--   beginning  everything in the log is delivered, again or for the first time
--   now, end   only what is not committed yet
--   id         that id and above
--   time       at least everything committed since that time, from the last mark before it
--
-- A waiting notification that would not be read again from there becomes a dead letter; their number is
-- returned. Workers that serve the consumer are fenced off and claim it again. Call it in a transaction of
-- its own that has written nothing.
create or replace function hark.seek(
  consumer text, kind text, id bigint default null, "time" timestamptz default null
) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set jit = off
as $$
declare
  start record;
  c hark.consumers;
  complete_through bigint;
  given_up bigint;
begin
  perform hark.require_consumer($1);
  if (kind in ('beginning', 'now', 'end') and (id is not null or "time" is not null))
    or (kind = 'id' and "time" is not null) or (kind = 'time' and id is not null)
  then
    raise exception 'a seek to "%" was given the id % and the time %', kind, id, "time"
      using errcode = 'HK006', hint = 'Give an id only with "id", and a time only with "time".';
  end if;
  perform hark.require_fresh_snapshot();
  -- Keeps hark.clean out, as in hark.register.
  lock table hark.consumers in row exclusive mode;
  start := hark.start_position(case kind when 'end' then 'now' else kind end, id, "time");
  delete from hark.replays r where r.consumer = $1;
  c := hark.changed($1);
  perform from hark.partitions s where s.consumer = $1 order by s.partition for update;
  perform hark.keep_marks(array[start.seen]);
  select i.rebased_through into complete_through from hark.install i;
  perform hark.bury($1, w.id, w.attempts, 'given up by a seek')
  from hark.waiting w
  left join hark.log l on l.id = w.id
  where w.consumer = $1 and (
    l.id is null
    or hark.passed(l.id, l.xid, start.after_id, (start.seen).number = 0, (start.seen).snapshot, null, 0, complete_through)
    -- What the consumer reads may have changed since this notification began to wait.
    or l.channel not in (select unnest(c.channels))
    or (c.filter is not null and not hark.may_match(c.filter, l.key, l.payload, l.headers))
  );
  get diagnostics given_up = row_count;
  delete from hark.waiting w where w.consumer = $1;
  delete from hark.done d where d.consumer = $1;
  update hark.partitions s set
    seen = (start.seen).number, target = null, last_id = 0, after_id = start.after_id, epoch = s.epoch + 1, owner = null, crashes = 0, alone_id = null, suspect_id = null, suspect_ends = 0,
    halted = null
  where s.consumer = $1;
  if c.next_partitions is not null then
    -- All partitions are at one position now, so nothing is left to wait for.
    update hark.consumers k set barrier = null where k.name = $1;
    perform hark.turn_partitions($1);
  end if;
  perform hark.record_act('seek', $1, given_up, concat_ws(' ', 'to', kind, id, "time"));
  return given_up;
end
$$;
comment on function hark.seek(text, text, bigint, timestamptz) is
  'Moves a consumer to "beginning", "now", an "id" or a "time"; returns how many waiting notifications it '
  'gave up.';

-- The first id published at or after a time or, with `last`, the last id published at or before it. Ids
-- and times rise together, except for short moments and for changes of the clock. Marks say around which
-- id to look.
create or replace function hark.id_at("time" timestamptz, last boolean) returns bigint
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
as $$
declare
  around bigint;
  found_id bigint;
begin
  if not last then
    select coalesce(max(m.max_id), 0) into around from hark.marks m where m.taken_at < $1 - interval '1 minute';
    select l.id into found_id from hark.log l where l.id > around and l.created_at >= $1 order by l.id limit 1;
  else
    select coalesce(min(m.max_id), 9223372036854775807) into around
    from hark.marks m where m.taken_at > $1 + interval '1 minute';
    select l.id into found_id from hark.log l where l.id <= around and l.created_at <= $1 order by l.id desc limit 1;
  end if;
  return found_id;
end
$$;

-- Stores a replay, with the positions of now.
create or replace function hark.add_replay(consumer text, channels text[], next_id bigint, to_id bigint) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  made bigint;
begin
  insert into hark.replays (consumer, channels, next_id, to_id) values ($1, $2, $3, $4) returning number into made;
  insert into hark.replay_positions
  select made, s.partition, s.seen, s.target, s.last_id, s.after_id from hark.partitions s where s.consumer = $1;
  return made;
end
$$;

-- Makes a consumer handle again what it has passed already. The range runs from an id or a time through an id
-- or a time, both included, or to the end of the log. It covers all channels of the consumer or some.
-- Notifications that the consumer has not passed are delivered once, in their turn. So what it has handled ahead
-- of one that is still in hand is not handled again. Its workers move the range in batches. Returns the replay's
-- number, or null if the log has nothing in that range.
create or replace function hark.replay(
  consumer text, from_id bigint default null, to_id bigint default null, channels text[] default null,
  from_time timestamptz default null, to_time timestamptz default null
) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  c hark.consumers;
  drawn bigint;
  first_id bigint := from_id;
  last_id bigint := to_id;
  strange text;
begin
  perform hark.require_consumer($1);
  if num_nonnulls(from_id, from_time) <> 1 or num_nonnulls(to_id, to_time) > 1 then
    raise exception 'a replay was given the start id % and time %, and the end id % and time %',
      from_id, from_time, to_id, to_time
      using errcode = 'HK006', hint = 'Give one start, and at most one end.';
  end if;
  drawn := hark.last_drawn_id();
  if from_id < 1 or from_id > drawn then
    raise exception 'a replay cannot begin at id %: the log has drawn ids from 1 to %', from_id, drawn
      using errcode = 'HK006', hint = 'Give an id of the log.';
  end if;
  if to_id < from_id or to_time < from_time or to_id < 1 then
    raise exception 'a replay cannot end (%) before it begins (%)',
      coalesce(to_id::text, to_time::text), coalesce(from_id::text, from_time::text)
      using errcode = 'HK006', hint = 'Give an end that is not before the beginning.';
  end if;
  if cardinality(channels) = 0 then
    raise exception 'a replay was given an empty list of channels' using errcode = 'HK006', hint = 'Leave channels out to replay all of them.';
  end if;
  c := hark.changed($1);
  select coalesce(n.name, 'null') into strange from unnest(channels) n (name)
  where coalesce(n.name <> all (c.channels), true) limit 1;
  if found then
    raise exception 'consumer "%" does not read channel "%"', $1, strange
      using errcode = 'HK006', hint = 'Replay channels of the consumer: ' || array_to_string(c.channels, ', ') || '.';
  end if;
  if from_time is not null then
    first_id := hark.id_at(from_time, false);
  end if;
  if to_time is not null then
    last_id := hark.id_at(to_time, true);
  end if;
  if to_time is null then
    last_id := least(to_id, drawn);
  end if;
  if first_id is null or last_id is null or first_id > last_id then
    return null;
  end if;
  -- It may all have been removed.
  if not exists (select from hark.log l where l.id >= first_id and l.id <= last_id) then
    return null;
  end if;
  perform hark.record_act('replay', $1, null, format('from id %s to %s', first_id, last_id));
  return hark.add_replay($1, case when $4 is not null then hark.as_set($4) end, first_id, last_id);
end
$$;
comment on function hark.replay(text, bigint, bigint, text[], timestamptz, timestamptz) is
  'Makes a consumer handle a range of ids, or of times, once more; returns the replay''s number.';

-- How many notifications a replay still has in its range, counted among the next `most` ids at most. `capped`:
-- it has more than these.
create or replace function hark.replay_count(
  replay bigint, most integer default 50000, out notifications bigint, out capped boolean
)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  select count(*) filter (where l.channel = any (coalesce(r.channels, c.channels))
      and (c.filter is null or hark.may_match(c.filter, l.key, l.payload, l.headers))),
    coalesce(count(*) = most and max(l.id) < max(r.to_id), false)
  into notifications, capped
  from hark.replays r join hark.consumers c on c.name = r.consumer
  cross join lateral (
    select l.* from hark.log l where l.id >= r.next_id and l.id <= r.to_id order by l.id limit most
  ) l
  where r.number = replay;
end
$$;
comment on function hark.replay_count(bigint, integer) is 'How many notifications a replay still has in its range.';

-- Has one consumer, or each (null), handle notifications once more. What it has handled is replayed. What it has
-- failed on is tried at once: dead letters start with their first attempt. Returns where each notification stood,
-- as hark.whereabouts does, and whether it comes again by this call. Unread ones come in their turn. If no consumer
-- is named, those that are foreign or absent are left out.
create or replace function hark.replay_ids(consumer text, ids bigint[]) returns table (
  whose text, id bigint, place text, again boolean
)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c hark.consumers;
  wanted bigint[];
  places text[];
  moved bigint[];
begin
  if $2 is null or cardinality($2) not between 1 and 10000 or array_position($2, null) is not null then
    raise exception 'a replay was given % ids', coalesce(cardinality($2), 0)
      using errcode = 'HK006', hint = 'Give 1 to 10000 ids.';
  end if;
  if $1 is not null then
    perform hark.require_consumer($1);
  end if;
  for whose in select k.name from hark.consumers k where $1 is null or k.name = $1 order by k.name loop
    c := hark.changed(whose);
    perform from hark.partitions s where s.consumer = whose order by s.partition for update;
    select array_agg(w.id), array_agg(w.place) into wanted, places
    from hark.whereabouts(whose, array(select distinct n.id from unnest($2) n (id))) w;
    with chosen as (
      insert into hark.waiting (consumer, id, partition, key, state)
      select whose, l.id, s.partition, l.key, 'replay'
      from unnest(wanted, places) w (id, place)
      join hark.log l on l.id = w.id
      join hark.places s on s.consumer = whose and s.partition = hark.partition_of(l.key, l.id, c.partitions)
      cross join hark.install i
      -- What is finished ahead of its position is not replayed yet: its worker still has it in hand.
      where w.place = 'handled' and hark.passed(
        l.id, l.xid, s.after_id, s.seen_nothing, s.seen_snapshot, s.target_snapshot, s.last_id, i.rebased_through)
      on conflict do nothing
      returning waiting.id
    )
    select coalesce(array_agg(x.id), '{}') into moved from chosen x;
    if places && '{waiting, dead}' then
      perform hark.retry(whose, array(select w.id from unnest(wanted, places) w (id, place) where w.place in ('waiting', 'dead')));
    end if;
    if cardinality(moved) > 0 then
      perform hark.record_act('replay', whose, cardinality(moved),
        hark.chosen_by(moved, null, null, null, null, null, null, null, null));
    end if;
    return query
    select whose, w.id, w.place, w.id = any (moved) or w.place = 'waiting'
      -- One of which only the id is left has stayed.
      or w.place = 'dead' and not exists (select from hark.dead d where d.consumer = whose and d.id = w.id)
    from unnest(wanted, places) w (id, place)
    where $1 is not null or w.place not in ('foreign', 'absent')
    order by w.id;
  end loop;
end
$$;
comment on function hark.replay_ids(text, bigint[]) is
  'Has one consumer, or each, handle notifications once more; returns where each one stood.';

-- Stops the workers of a consumer from starting anything new; they finish what is in hand. Returns whether
-- this changed anything.
create or replace function hark.pause(consumer text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform hark.require_consumer($1);
  update hark.consumers c set paused_at = clock_timestamp(), changes = c.changes + 1
  where c.name = $1 and c.paused_at is null;
  if found then
    perform hark.request_look($1);
    perform hark.record_act('pause', $1);
    return true;
  end if;
  return false;
end
$$;
comment on function hark.pause(text) is 'Stops delivery to a consumer, wherever it runs, until hark.resume.';

create or replace function hark.resume(consumer text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform hark.require_consumer($1);
  update hark.consumers c set paused_at = null, changes = c.changes + 1
  where c.name = $1 and c.paused_at is not null;
  if found then
    perform hark.request_look($1);
    perform hark.record_act('resume', $1);
    return true;
  end if;
  return false;
end
$$;
comment on function hark.resume(text) is 'Resumes delivery to a paused consumer.';

-- Removes a consumer with its position, so that it no longer holds back cleaning. A worker that serves
-- it ends with an error. Returns whether there was one. The order of locks prevents a deadlock with
-- workers that acknowledge.
create or replace function hark.remove_consumer(consumer text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform from hark.replays r where r.consumer = $1 for update;
  perform from hark.consumers c where c.name = $1 for no key update;
  perform from hark.partitions s where s.consumer = $1 order by s.partition for update;
  delete from hark.consumers c where c.name = $1;
  if found then
    perform hark.request_look($1);
    perform hark.record_act('remove', $1);
    return true;
  end if;
  return false;
end
$$;
comment on function hark.remove_consumer(text) is
  'Removes a consumer, its position and its dead letters; notifications that it had not read count as read.';
