-- How the database is, for metrics: see hark.measure.

-- Measures how consumers, the log and the server are. Of all processes that ask, one is told, the reporter: so
-- the database is measured once, however many there are. Others get null for as long as it goes on asking, and one
-- of them takes its place `hold_ms` after it has asked last, 15 s to 15 min. Only this function can lock the
-- reporter's row, and it does not wait for that lock.
--
-- What could be large is counted up to max_count, and backlogs for at most max_ms in all. A consumer that is
-- further behind has a lag of all ids after its position, also of channels that it does not read. If no
-- unhandled notification was found by then, the age of the first one after its position counts.
create or replace function hark.measure(
  reporter uuid, hold_ms integer default 45000, max_count integer default 10000, max_ms integer default 250
) returns json
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '1s' set jit = off
as $$
declare
  now timestamptz := clock_timestamp();
  r hark.reporter;
  longest interval;
begin
  select x.* into r from hark.reporter x for update skip locked;
  if not found then
    -- Another process is being told. An insert would wait for it.
    if exists (select from hark.reporter) then
      return null;
    end if;
    -- A crash has emptied the table.
    begin
      insert into hark.reporter default values on conflict do nothing;
    exception when lock_not_available then
      return null;
    end;
    select x.* into r from hark.reporter x for update skip locked;
    if not found then
      return null;
    end if;
  end if;
  -- A time further ahead is of a clock that went back.
  if r.process <> reporter and r.until between now and now + interval '15 minutes' then
    return null;
  end if;
  update hark.reporter x set process = reporter, until = now + make_interval(secs => least(greatest(hold_ms, 15000), 900000) / 1000.0);
  select case when bool_or(x.keep is null) or not bool_or(x.channel = '') then null else max(x.keep) end
  into longest from hark.retention x;
  return json_build_object(
    'consumers', (
      select coalesce(json_agg(json_build_object(
        'consumer', s.consumer,
        'lag', case when s.unread_capped then greatest(s.unread, hark.last_drawn_id() - p.after) else s.unread end,
        'lag_time', greatest(s.lag_seconds, s.waiting_seconds),
        'waiting', s.waiting,
        'dead', s.dead,
        'workers', s.workers
      ) order by s.consumer), '[]')
      from hark.status(max_count, max_ms, 5::bigint * max_count) s
      cross join lateral (select min(x.low_now) as after from hark.places x where x.consumer = s.consumer) p
    ),
    'inboxes', (
      select coalesce(json_agg(json_build_object('inbox', i.inbox, 'dead', i.dead, 'lag', i.pending,
        'stuck', case when i.trouble is not null then extract(epoch from now - i.trouble_since)::double precision else 0 end)),
        '[]')
      from hark.inbox_status(max_count) i
    ),
    'relays', (
      select coalesce(json_agg(json_build_object('relay', y.relay, 'failing', y.failing, 'disabled', y.disabled,
        'stuck', case when y.trouble is not null then extract(epoch from now - y.trouble_since)::double precision else 0 end)),
        '[]')
      from hark.relay_status() y
    ),
    'log_size', (select coalesce(sum(pg_total_relation_size(v.segment)), 0)::bigint from hark.segments() v),
    'log_rows', greatest(
      -- Statistics are empty after a crash, and late for a small log.
      (select count(*) from (select from hark.log limit max_count) l),
      (select coalesce(sum(case when t.n_live_tup > 0 then t.n_live_tup else greatest(c.reltuples, 0)::bigint end), 0)::bigint
      from hark.segments() v join pg_class c on c.oid = v.segment left join pg_stat_all_tables t on t.relid = v.segment)
    ),
    'held_back', (
      select coalesce(json_agg(json_build_object('consumer', h.consumer,
        'seconds', extract(epoch from now - longest - h.oldest)::double precision)), '[]')
      from hark.holding(now - longest) h where longest is not null
    ),
    'queue', pg_notification_queue_usage(),
    'horizon', (
      select greatest(max(extract(epoch from now - x.since)), 0)::double precision
      from (
        select a.xact_start as since from pg_stat_activity a
        where a.backend_type = 'client backend' and a.pid <> pg_backend_pid()
          and (a.backend_xmin is not null or a.backend_xid is not null)
          and (a.datname = current_database() or a.backend_xid is not null)
        union all
        select p.prepared from pg_prepared_xacts p
      ) x
    ),
    -- Under a steady flow something is always due. A worker delivers it within seconds.
    'due', (
      select count(*) from (select from hark.delayed d where d.deliver_at <= now - interval '10 s' limit max_count) d
    )
  );
end
$$;
comment on function hark.measure(uuid, integer, integer, integer) is
  'How consumers, the log and the server are, for metrics: told to one process of all, at most every 15 s.';
