-- Cleaning: whole segments if all of a segment is old and passed, else row by row.

-- The bytes of a row as stored. For the row as a whole, pg_column_size would unpack the payload and return
-- its size in memory. The rest of a row is about 60 bytes.
create or replace function hark.stored_bytes(channel text, key text, payload jsonb, headers jsonb) returns bigint
language sql stable
as $$
  select 60::bigint operator(pg_catalog.+) pg_catalog.pg_column_size($1)
    operator(pg_catalog.+) coalesce(pg_catalog.pg_column_size($2), 0)
    operator(pg_catalog.+) pg_catalog.pg_column_size($3)
    operator(pg_catalog.+) coalesce(pg_catalog.pg_column_size($4), 0)
$$;

-- Empties one segment if all of it is older than `cutoff` and passed by every consumer. With `forced`,
-- positions do not count. Returns the segment and about how many notifications and bytes it held. Returns no
-- row if there is no such segment, or if another session is in the way.
create or replace function hark.empty_segment(cutoff timestamptz, forced boolean default false)
returns table (segment text, removed bigint, bytes bigint)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set lock_timeout = '50ms' set jit = off
as $$
declare
  f record;
  last_id bigint;
  first_id bigint;
  floor_of_all bigint;
  has_rows boolean;
begin
  perform hark.require_read_committed();
  perform hark.rebase();
  last_id := hark.last_drawn_id();
  for f in
    -- Rows of the overflow segment (log_overflow) are older than the rows of the segment that takes the next id,
    -- if there is such a segment.
    select v.segment, v.name, v.bytes, coalesce(v.upper, o.lower) - 1 as through
    from hark.segments() v
    left join hark.segments() o on v.upper is null and o.lower <= last_id + 1 and o.upper > last_id + 1
    where v.bytes > 0 and coalesce(v.upper, o.lower) <= last_id
  loop
    continue when cardinality(hark.holders_of(array[f.segment], true)) > 0 or hark.is_newer(f.name, cutoff, f.through);
    begin
      -- As in hark.clean: no position goes back from here on. A publisher may have drawn an id of this
      -- segment and not have locked the segment yet. If it began before every floor and low, these are not
      -- above that id. Otherwise no consumer is registered for its notification.
      lock table hark.consumers in share row exclusive mode;
      execute format('select min(l.id) from hark.%I l', f.name) into first_id;
      perform hark.advance_idle(10000);
      select min(p.low) into floor_of_all from hark.places p;
      if first_id is not null and not forced and floor_of_all < f.through
        or exists (select from hark.waiting w where w.id >= first_id and w.id <= f.through and w.channel is null)
        or exists (select from hark.replays r where r.next_id <= f.through and r.to_id >= first_id)
      then
        raise lock_not_available; -- also releases the locks of this block
      end if;
      execute format('lock table hark.%I in access exclusive mode', f.name);
      -- Since the first look a publisher may have come and gone.
      if hark.is_newer(f.name, cutoff, f.through) then
        raise lock_not_available;
      end if;
      execute format('select exists (select from hark.%I)', f.name) into has_rows;
      if not has_rows then
        -- All rows were removed one by one: only their space is left, and there is nothing to report.
        execute format('truncate hark.%I', f.name);
        continue;
      end if;
      -- Count exactly if that takes no time.
      execute format(case when f.bytes < 8388608 then 'select count(*) from hark.%I'
        else 'select greatest(c.reltuples, 0)::bigint from pg_class c where c.relname = %1$L and c.relnamespace = ''hark''::regnamespace' end,
        f.name) into removed;
      if removed = 0 then
        removed := least(f.through - first_id + 1, f.bytes / 60);
      end if;
      bytes := pg_total_relation_size(f.segment);
      execute format('truncate hark.%I', f.name);
      perform hark.cleaned(f.through);
      if forced then
        perform hark.record_forced(cutoff, removed);
      end if;
      segment := f.name;
      return next;
      return;
    exception when lock_not_available then
      null; -- try the next segment
    end;
  end loop;
exception when lock_not_available then
  -- Another session makes, empties or drops a segment: which segments there are cannot be asked.
  return;
end
$$;
comment on function hark.empty_segment(timestamptz, boolean) is
  'Empties one segment of the log that is wholly older than a time and passed by every consumer, whatever '
  'its size.';

-- Whether a segment has a notification that is not older than `cutoff`, or one above the id `through`.
-- Ids and times rise together, except for the moment between a call's clock and its id. So the last
-- 1,000 rows decide.
create or replace function hark.is_newer(segment text, cutoff timestamptz, through bigint) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  newer boolean;
begin
  execute format('select coalesce(max(n.created_at) >= $1 or max(n.id) > $2, false)
    from (select l.created_at, l.id from hark.%I l order by l.id desc limit 1000) n', $1) into newer using $2, $3;
  return newer;
end
$$;

-- Whether the first `most` + 1 notifications of the log are all older than `cutoff`.
create or replace function hark.has_older(cutoff timestamptz, most integer) returns boolean
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  select count(*) > $2 from (select l.created_at from hark.log l order by l.id limit $2 + 1) l where l.created_at < $1
$$;

-- Drops segments that are empty and whose ids are all drawn. It does so at a moment when no publisher stays
-- open: all other publishers would wait behind this for that one. Call it in a transaction of its own.
-- Returns how many.
create or replace function hark.drop_segments() returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '50ms'
as $$
declare
  f record;
  dropped integer := 0;
  has_rows boolean;
begin
  perform hark.require_read_committed();
  if not exists (select from hark.segments() v where v.bytes = 0 and v.upper <= hark.last_drawn_id())
    or not hark.is_passable()
  then
    return 0;
  end if;
  lock table only hark.log in access exclusive mode;
  for f in select * from hark.segments() v where v.bytes = 0 and v.upper <= hark.last_drawn_id() loop
    execute format('lock table hark.%I in access exclusive mode', f.name);
    execute format('select exists (select from hark.%I)', f.name) into has_rows;
    continue when has_rows;
    execute format('drop table hark.%I', f.name);
    dropped := dropped + 1;
  end loop;
  return dropped;
exception when lock_not_available then
  return 0;
end
$$;

-- Cleans tables other than the log. Returns how many expired dedupe keys it removed. If that is less than
-- `batch`, none is left.
create or replace function hark.tidy(batch integer default 10000) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- Workers that ended without leaving. The last worker of a consumer stays: it tells hark.drop_inactive
  -- since when none has served it.
  delete from hark.workers w
  using (
    select k.consumer, k.owner from hark.workers k join hark.processes p on p.id = k.process
    where p.lease_until < clock_timestamp() - interval '1 hour' and exists (
      select from hark.crew n
      where n.consumer = k.consumer and (n.lease_until, n.owner) > (p.lease_until, k.owner)
    )
    for update of k skip locked
  ) gone
  where w.consumer = gone.consumer and w.owner = gone.owner;
  perform hark.forget_processes('1 hour');
  perform hark.forget_sleepers();
  return hark.forget_dedupe(batch);
end
$$;

-- Records the highest id that cleaning has removed.
create or replace function hark.cleaned(through bigint) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$ update hark.upkeep u set cleaned_through = $1 where u.cleaned_through < $1 $$;

-- Removes old notifications, a batch a call, in id order from after_id on: those published before
-- `cutoff` that every consumer has read. `forced` removes unread ones too. With dry_run nothing is
-- removed, only counted. `only_channel` and `except_channels` limit it to some channels.
--
-- Returns where to go on (null: finished), how many were removed, how many that are old enough were kept, the
-- bytes removed as stored, and the first id kept. It reads only the segments that hold the batch.
create or replace function hark.clean(
  cutoff timestamptz, after_id bigint default 0, batch integer default 10000,
  forced boolean default false, dry_run boolean default false, without text[] default '{}',
  only_channel text default null, except_channels text[] default '{}'
) returns table (
  next_id bigint, removed bigint, kept bigint, bytes bigint, last_created_at timestamptz, first_kept bigint
)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set jit = off
as $$
declare
  through bigint;
  floor_of_all bigint;
  complete_through bigint;
  looked bigint;
  aged bigint;
  highest bigint;
begin
  if batch is null or batch < 1 then
    raise exception 'batch is %', coalesce(batch::text, 'null')
      using errcode = 'HK006', hint = 'Give the number of notifications to look at, at least 1.';
  end if;
  if cardinality(without) > 0 and not dry_run then
    raise exception 'cleaning cannot ignore the consumers %', without
      using errcode = 'HK006', hint = 'Only a dry run can ignore them. Remove the consumers instead.';
  end if;
  perform hark.require_read_committed();
  -- On a server that the log was restored to, notifications that no consumer has read would look read.
  perform hark.rebase();
  -- Waits for registrations, seeks and replays in progress, and holds new ones back for this batch: see
  -- hark.register. Without it a position could go back below rows that are being removed.
  begin
    -- Registrations wait behind this while it waits. Not as a SET clause: a caller may have set less.
    if current_setting('lock_timeout') = '0' then
      perform set_config('lock_timeout', '2s', true);
      lock table hark.consumers in share row exclusive mode;
      perform set_config('lock_timeout', '0', true);
    else
      lock table hark.consumers in share row exclusive mode;
    end if;
  exception when lock_not_available then
    raise exception 'an open transaction holds a lock on hark.consumers, and cleaning has waited for it in vain'
      using errcode = 'lock_not_available', hint = 'Clean again later. pg_locks shows which session it is.';
  end;
  if not dry_run then
    perform hark.tidy(batch);
  end if;
  -- In a dry run too, or it would count fewer than a run removes. What consumers read does not change by it.
  perform hark.advance_idle(batch);
  -- No window can hold a row at or below the lowest floor and low. Rows above are checked one by one.
  select min(p.low) into floor_of_all from hark.places p where p.consumer <> all (without);
  select i.rebased_through into complete_through from hark.install i;
  select max(l.id), count(*), max(l.created_at), count(*) filter (where l.created_at < cutoff),
    count(*) filter (where l.created_at < cutoff
      and (only_channel is null or l.channel = only_channel) and l.channel <> all (except_channels))
  into through, looked, last_created_at, aged, kept
  from (
    select l.id, l.created_at, l.channel from hark.log l where l.id > after_id order by l.id limit batch
  ) l;
  -- Ids and times rise together, except for the moment between a call's clock and its id. So a whole batch
  -- without an old row is the end.
  if looked = 0 or aged = 0 then
    return query select null::bigint, 0::bigint, 0::bigint, 0::bigint, last_created_at, null::bigint;
    return;
  end if;
  next_id := case when looked < batch then null else through end;
  with place as materialized (
    select distinct on (p.seen, p.target, p.last_id, p.after_id) p.* from hark.places p where p.consumer <> all (without)
  ),
  aged as materialized (
    select l.id, l.xid from hark.log l
    where l.id > after_id and l.id <= through and l.created_at < cutoff
      and (only_channel is null or l.channel = only_channel) and l.channel <> all (except_channels)
  ),
  old as materialized (
    select l.id from aged l
    where (forced or floor_of_all is null or l.id <= floor_of_all
        or not exists (select from place p
          where not hark.passed(
            l.id, l.xid, p.after_id, p.seen_nothing, p.seen_snapshot, p.target_snapshot, p.last_id, complete_through)))
      and not exists (select from hark.waiting w
        where w.id = l.id and w.channel is null and w.consumer <> all (without))
      and not exists (select from hark.replays r
        where l.id >= r.next_id and l.id <= r.to_id and r.consumer <> all (without))
  ),
  gone as (
    delete from hark.log l using old o
    where l.id = o.id and l.id > after_id and l.id <= through and not dry_run
    returning l.id, hark.stored_bytes(l.channel, l.key, l.payload, l.headers) as size
  )
  select count(*), coalesce(sum(g.size), 0), max(g.id),
    (select min(a.id) from aged a where not exists (select from old o where o.id = a.id))
  into removed, bytes, highest, first_kept
  from (
    select g.id, g.size from gone g
    union all
    select o.id, hark.stored_bytes(l.channel, l.key, l.payload, l.headers)
    from old o join hark.log l on l.id = o.id and l.id > after_id and l.id <= through where dry_run
  ) g;
  if not dry_run and removed > 0 then
    perform hark.cleaned(highest);
    if forced then
      perform hark.record_forced(cutoff, removed);
    end if;
  end if;
  kept := kept - removed;
  if not dry_run and kept > 0 then
    perform hark.ask_to_store(through);
  end if;
  return next;
end
$$;
