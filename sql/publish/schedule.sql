-- Publishing on a schedule. The programs compute from the cron pattern when a schedule is due next. This
-- schema stores that time.

-- Stores a schedule, or replaces the one of this name. Returns when it is due next. If the pattern and the
-- time zone are those of before, the stored time stays: a program that stores its schedules at each start
-- would otherwise drop one that is due and not published yet.
--
-- A role replaces only what it has scheduled itself, or what a role has scheduled whose rights it has. An
-- operator that may publish replaces any.
create or replace function hark.schedule(
  name text, cron text, timezone text, next_at timestamptz, channel text, payload jsonb default '{}',
  key text default null, headers jsonb default null, missed text default 'once'
) returns timestamptz
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  due timestamptz := date_trunc('second', $4);
begin
  if $1 is null or $2 is null or $3 is null or $5 is null or $9 is null then
    raise exception 'a name, cron pattern, time zone, channel or missed is null'
      using errcode = 'HK006', hint = 'Give all of them.';
  end if;
  if char_length($1) not between 1 and 200 then
    raise exception 'name % has % characters', hark.in_short($1), char_length($1)
      using errcode = 'HK006', hint = 'Give a name of 1 to 200 characters.';
  end if;
  if char_length($2) not between 1 and 200 then
    raise exception 'cron pattern % has % characters', hark.in_short($2), char_length($2)
      using errcode = 'HK006', hint = 'Give a cron pattern such as 0 3 * * *.';
  end if;
  if char_length($3) not between 1 and 100 then
    raise exception 'time zone % has % characters', hark.in_short($3), char_length($3)
      using errcode = 'HK006', hint = 'Give a time zone such as Europe/Berlin.';
  end if;
  if $9 not in ('once', 'skip') then
    raise exception 'missed is %', hark.in_short($9) using errcode = 'HK006', hint = 'Give once or skip.';
  end if;
  if char_length($5) not between 1 and 200 or char_length($7) > 1000 or jsonb_typeof($8) <> 'object' then
    perform hark.refuse($5, $7, $8);
  end if;
  if due is null or not isfinite(due) then
    raise exception 'a schedule cannot be due at %', coalesce($4::text, 'null')
      using errcode = 'HK006', hint = 'Give the time at which it is due next.';
  end if;
  loop
    perform hark.require_schedule_rights($1);
    insert into hark.schedules as s (name, cron, timezone, next_at, channel, payload, key, headers, missed, owner, owner_role)
    values ($1, $2, $3, due, $5, coalesce($6, 'null'), $7, $8, $9, hark.acting_role(), to_regrole(quote_ident(hark.acting_role())))
    on conflict on constraint schedules_pkey do update
      set cron = excluded.cron, timezone = excluded.timezone, channel = excluded.channel,
        payload = excluded.payload, key = excluded.key, headers = excluded.headers, missed = excluded.missed,
        problem = null, next_at = case
          when s.cron = excluded.cron and s.timezone = excluded.timezone
            -- The given time may have been published since it was computed.
            then case when excluded.next_at > clock_timestamp() then least(s.next_at, excluded.next_at)
              else coalesce(s.next_at, excluded.next_at) end
          else excluded.next_at end
      -- Another session may have stored it since the rights were looked at. Then they are looked at again.
      where hark.has_rights_of(hark.owner_of(s.owner, s.owner_role))
    returning s.next_at into due;
    exit when found;
  end loop;
  perform hark.request_look('');
  return due;
end
$$;
comment on function hark.schedule(text, text, text, timestamptz, text, jsonb, text, jsonb, text) is
  'Stores or replaces a schedule; a program computes next_at from the cron pattern.';

create or replace function hark.require_schedule_rights(name text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  s hark.schedules;
begin
  select x.* into s from hark.schedules x where x.name = $1;
  if found then
    perform hark.require_rights_of(s.owner, s.owner_role, format('stored the schedule "%s"', $1), 'Change it as');
  end if;
end
$$;

-- Removes a schedule. Returns whether there was one. What it has published stays. The same roles may remove
-- it that may replace it.
--
-- Runs with the caller's rights, so that a SECURITY DEFINER function of an operator can remove for others.
create or replace function hark.unschedule(name text) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  if has_function_privilege('hark.remove_any_schedule(text)', 'execute') then
    return hark.remove_any_schedule($1);
  end if;
  return hark.remove_own_schedule($1);
end
$$;
comment on function hark.unschedule(text) is
  'Removes a schedule; false if there is none. For the role that stored it, and for operators.';

-- Refuses before it locks the row: a lock would hold up the workers.
create or replace function hark.remove_own_schedule(name text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform hark.require_schedule_rights($1);
  return hark.remove_any_schedule($1);
end
$$;

create or replace function hark.remove_any_schedule(name text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  whose oid;
begin
  delete from hark.schedules s where s.name = $1 returning hark.owner_of(s.owner, s.owner_role) into whose;
  if not found then
    return false;
  end if;
  perform hark.record_upon(whose, 'unschedule', $1);
  return true;
end
$$;

create or replace function hark.schedules_in_full() returns setof hark.schedules
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$ select s.* from hark.schedules s order by s.name $$;

-- For roles that may only observe: see operate/log.sql.
create or replace function hark.schedules_in_outline() returns setof hark.schedules
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select s.name, s.cron, s.timezone, s.next_at, s.channel, null::jsonb, s.key, null::jsonb, s.missed, s.last_at, s.last_id,
    s.problem, s.created_at, s.owner, s.owner_role
  from hark.schedules s order by s.name
$$;

create or replace function hark.schedules() returns setof hark.schedules
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if has_function_privilege('hark.schedules_in_full()', 'execute') then
    return query select * from hark.schedules_in_full();
  else
    return query select * from hark.schedules_in_outline();
  end if;
end
$$;
comment on function hark.schedules() is 'All schedules, by name.';

-- The first `most` schedules by the time that they are due, and one more. wait_ms is 0 or less for those that
-- are due by the server's clock. now_ms is that clock, in ms since 1970.
create or replace function hark.next_schedules(most integer default 100)
returns table (
  name text, cron text, timezone text, due_ms double precision, wait_ms double precision, now_ms double precision
)
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  select s.name, s.cron, s.timezone, extract(epoch from s.next_at)::double precision * 1000,
    extract(epoch from s.next_at - t.now)::double precision * 1000, extract(epoch from t.now)::double precision * 1000
  from (select clock_timestamp() as now) t, hark.schedules s
  where s.next_at is not null order by s.next_at limit $1 + 1
$$;

-- Publishes one due schedule, and stores when it is due next (`following`, in ms since 1970), which the worker
-- has computed from `cron` and `timezone`. Returns whether it did: false if another session has done it or is
-- doing it, or if the schedule was changed since the worker read it. So each time is published once, by
-- whichever worker comes first, and never by a worker that ends before it commits.
--
-- If the time is over by more than a minute and the schedule's `missed` is 'skip', only the next time is
-- stored. Without `following` there is no next time. With `problem` nothing is published: the schedule rests
-- until it is stored anew.
create or replace function hark.run_schedule(
  name text, cron text, timezone text, due_ms double precision, following double precision, problem text default null
) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  s hark.schedules;
  published bigint;
begin
  select x.* into s from hark.schedules x
  where x.name = $1 and x.cron = $2 and x.timezone = $3 and x.next_at = to_timestamp($4 / 1000)
    and x.next_at <= clock_timestamp()
  for update skip locked;
  if not found then
    return false;
  end if;
  if $6 is null and (s.missed = 'once' or s.next_at > clock_timestamp() - interval '1 minute') then
    begin
      published := hark.notify(s.channel, s.payload, s.key, coalesce(s.headers, '{}') || jsonb_build_object(
        'schedule', s.name,
        'scheduledAt', to_char(s.next_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')));
    exception when others then
      if not hark.is_of_a_value(sqlstate) then
        raise;
      end if;
      $6 := sqlerrm;
    end;
  end if;
  update hark.schedules x
  set next_at = case when $6 is null then to_timestamp($5 / 1000) end, problem = $6,
    last_at = case when published is null then x.last_at else x.next_at end,
    last_id = coalesce(published, x.last_id)
  where x.name = $1;
  return true;
end
$$;
comment on function hark.run_schedule(text, text, text, double precision, double precision, text) is
  'Publishes a due schedule once, and stores when it is due next.';
