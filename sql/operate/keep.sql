-- Retention: how long notifications are kept, as settings that the workers apply.

-- Keeps notifications for a time: those of one channel, or of all channels that have no setting of their own. A
-- null `keep` keeps them for ever. Workers begin to remove what is older within seconds.
create or replace function hark.set_retention(keep interval, channel text default null) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if keep <= interval '0' or keep > interval '100000 days' then
    raise exception 'keep is %', keep
      using errcode = 'HK006', hint = 'Give an interval of more than 0, at most 100000 days, or null for ever.';
  end if;
  if char_length(channel) not between 1 and 200 then
    perform hark.refuse(channel, null, null);
  end if;
  insert into hark.retention (channel, keep) values (coalesce($2, ''), $1)
  on conflict on constraint retention_pkey do update set
    keep = excluded.keep, set_at = excluded.set_at, next_at = excluded.next_at, after_id = 0, first_kept = null,
    begun_at = null;
  -- Rows that another setting has passed may be its matter now.
  update hark.retention r set after_id = 0, first_kept = null, begun_at = null where r.channel = '';
  perform hark.record_act('retention', $2, null, coalesce('keep ' || $1, 'keep for ever'));
end
$$;
comment on function hark.set_retention(interval, text) is
  'Keeps notifications for a time, of one channel or of all; null: for ever. Workers remove what is older.';

-- Removes a setting. Returns whether there was one.
create or replace function hark.unset_retention(channel text default null) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  there boolean;
begin
  delete from hark.retention r where r.channel = coalesce($1, '');
  there := found;
  if there then
    perform hark.record_act('retention', $1, null, 'unset');
  end if;
  update hark.retention r set after_id = 0, first_kept = null, begun_at = null where r.channel = '';
  return there;
end
$$;
comment on function hark.unset_retention(text) is
  'Removes how long notifications are kept, of one channel or of all; returns whether that was set.';

-- The settings, the one for all channels first (its channel is null).
create or replace function hark.retention_settings() returns table (
  channel text, keep interval, set_at timestamptz, applied_at timestamptz, removed bigint
)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select nullif(r.channel, ''), r.keep, r.set_at, r.applied_at, r.removed from hark.retention r order by r.channel
$$;
comment on function hark.retention_settings() is 'How long notifications are kept, for all channels and by channel.';

-- Whether a worker should call hark.apply_retention now. That stores no time further ahead than a minute: if one is, the
-- server's clock went back since.
create or replace function hark.retention_due() returns boolean
-- Each heartbeat calls it. A SQL function would be planned at each call.
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (select from hark.retention r where r.keep is not null
    and r.next_at not between clock_timestamp() and clock_timestamp() + interval '1 minute');
end
$$;

-- Applies one due setting: empties one old segment, or looks at one batch of notifications. One worker at a time
-- works at a setting, as it locks the row. A setting that is done is due again after a minute, or after a
-- tenth of a shorter time to keep. It waits for no other session longer than 50 ms, and keeps what cleaning
-- keeps. Returns how many were removed, and in how many ms to call it again; null if there is no setting. Call
-- it in a transaction of its own.
create or replace function hark.apply_retention(batch integer default 2000) returns table (
  removed bigint, next_ms double precision
)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '50ms'
as $$
declare
  r hark.retention;
  -- The longest time for which a notification of any channel is kept; null: for ever.
  longest interval;
  cutoff timestamptz;
  others text[];
  one record;
  oldest timestamptz;
  more boolean := false;
begin
  removed := 0;
  select x.* into r from hark.retention x
  where x.keep is not null and x.next_at not between clock_timestamp() and clock_timestamp() + interval '1 minute'
  order by x.next_at limit 1 for update skip locked;
  if found then
    cutoff := clock_timestamp() - r.keep;
    begin
      r.next_at := clock_timestamp() + least(interval '1 minute', greatest(interval '1 second', r.keep / 10));
      if (r.begun_at between clock_timestamp() - interval '1 day' and clock_timestamp()) is not true then
        -- Now and then from the start: a transaction that commits late has ids below the last batch.
        r.begun_at := clock_timestamp();
        r.after_id := 0;
        r.first_kept := null;
      end if;
      select case when bool_or(x.keep is null) or not bool_or(x.channel = '') then null else max(x.keep) end
      into longest from hark.retention x;
      select l.created_at into oldest from hark.log l where l.id > r.after_id order by l.id limit 1;
      if oldest < cutoff then
        if r.channel = '' and longest is not null then
          select e.removed into one from hark.empty_segment(clock_timestamp() - longest) e;
          if found then
            removed := one.removed;
            more := true;
            r.next_at := clock_timestamp();
          end if;
        end if;
        if not more then
          if r.channel = '' then
            select array_agg(x.channel) into others from hark.retention x where x.channel <> '';
          end if;
          select * into one from hark.clean(cutoff, r.after_id, batch, only_channel => nullif(r.channel, ''),
            except_channels => coalesce(others, '{}'));
          removed := one.removed;
          r.first_kept := least(r.first_kept, one.first_kept);
          if one.next_id is not null then
            more := true;
            r.after_id := one.next_id;
            -- Slower if there are many: as soon as their segment is wholly old, it goes as a whole.
            r.next_at := clock_timestamp() + case
              when r.channel = '' and r.keep = longest and hark.has_older(cutoff, 50000) then interval '1 second'
              else interval '100 ms' end;
          end if;
        end if;
      end if;
      if not more then
        -- The pass is over. The next one begins with the first notification that was kept.
        r.after_id := least(r.after_id, r.first_kept - 1);
        r.first_kept := null;
        if r.channel = '' then
          perform hark.tidy();
          -- An event trigger may ban changes of the schema. What is removed stays removed.
          begin
            perform hark.drop_segments();
          exception when others then
            raise warning 'could not drop empty segments of the log: %', sqlerrm;
          end;
        end if;
      end if;
    exception when lock_not_available then
      removed := 0;
      r.next_at := clock_timestamp() + interval '1 second';
    end;
    update hark.retention x set
      next_at = r.next_at, after_id = r.after_id, first_kept = r.first_kept, begun_at = r.begun_at,
      applied_at = clock_timestamp(), removed = x.removed + apply_retention.removed
    where x.channel = r.channel;
  end if;
  select min(case when x.next_at not between clock_timestamp() and clock_timestamp() + interval '1 minute' then 0
    else greatest(0, extract(epoch from x.next_at - clock_timestamp())) end)::double precision * 1000
  into next_ms
  from hark.retention x where x.keep is not null;
  return next;
end
$$;
