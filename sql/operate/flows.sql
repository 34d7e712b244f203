-- What leaves this database and what comes in: relays and inboxes, and what they wait for.

-- Stores what a relay or an inbox waits for, or with null that it goes on.
create or replace function hark.tell_trouble(kind text, name text, reason text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if $3 is null then
    delete from hark.troubles t where t.kind = $1 and t.name = $2;
  else
    insert into hark.troubles as t (kind, name, reason) values ($1, $2, left($3, 1000))
    on conflict on constraint troubles_pkey do update set reason = excluded.reason, told_at = clock_timestamp();
  end if;
end
$$;
comment on function hark.tell_trouble(text, text, text) is 'For a relay or an inbox: says what it waits for.';

-- All relays, by name: the targets that they publish to, and what they wait for. Of a relay to webhooks also how many
-- endpoints fail or are disabled, and ten of them: those that are disabled first, then those that have failed for
-- longest. Everything else about a relay is in hark.status, as it is a consumer.
create or replace function hark.relay_status() returns table (
  relay text, targets text[], trouble text, trouble_since timestamptz, failing integer, disabled integer, endpoints json
)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select r.consumer, r.targets, hark.sendable(t.reason), t.since, e.failing, e.disabled, w.worst
  from (
    select x.consumer, array_agg(distinct x.target) as targets
    from (
      select y.consumer, y.target from hark.relays y
      union
      -- A relay to webhooks has no place in its target.
      select y.consumer, 'webhooks' from hark.endpoints y
    ) x
    group by x.consumer
  ) r
  left join hark.troubles t on t.kind = 'relay' and t.name = r.consumer
  cross join lateral (
    select (count(*) filter (where not x.disabled))::integer as failing,
      (count(*) filter (where x.disabled))::integer as disabled
    from hark.endpoints x where x.consumer = r.consumer
  ) e
  cross join lateral (
    select coalesce(json_agg(json_build_object('endpoint', hark.sendable(x.endpoint), 'disabled', x.disabled,
      'since', extract(epoch from x.failing_since)::double precision * 1000, 'reason', hark.sendable(x.reason))
      order by x.disabled desc, x.failing_since, x.endpoint collate "C"), '[]') as worst
    from (
      select y.* from hark.endpoints y where y.consumer = r.consumer
      order by y.disabled desc, y.failing_since, y.endpoint collate "C" limit 10
    ) x
  ) w
  order by r.consumer collate "C"
$$;
comment on function hark.relay_status() is 'The targets of relays, what relays wait for, and which endpoints fail.';
