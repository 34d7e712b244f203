-- The record of what operators did. Each function that acts calls hark.record_act in its own transaction.

-- Records an act. The role comes from the server. The person is what the program says in the setting hark.person, such
-- as the dashboard, where many persons act by one role.
create or replace function hark.record_act(act text, about text, affected bigint default null, detail text default '')
returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  made bigint;
begin
  insert into hark.acts (act, about, affected, detail, role, login, person)
  values ($1, $2, $3, left($4, 1000), hark.acting_role(), session_user,
    nullif(left(current_setting('hark.person', true), 200), ''))
  returning number into made;
  -- Another act in an open transaction may have deleted the same rows. It would hold up this one, with all that it locks.
  delete from hark.acts a using (
    select x.number from hark.acts x where x.number <= made - 10000 for update skip locked
  ) old
  where a.number = old.number;
end
$$;

-- Records an act upon what a role has stored, such as a schedule. What the role takes back itself is no act of an
-- operator, or a program would fill the record. It is one if an operator's program names the person.
create or replace function hark.record_upon(owner oid, act text, about text, affected bigint default null, detail text default '')
returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if $1 is distinct from to_regrole(quote_ident(hark.acting_role())) or current_setting('hark.person', true) <> '' and hark.has_rights_of(null) then
    perform hark.record_act($2, $3, $4, $5);
  end if;
end
$$;

-- Records what a forced cleanup has removed, read or not. The calls of one run are one act.
create or replace function hark.record_forced(cutoff timestamptz, removed bigint) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  told constant text := format('forced, before %s', to_char($1 at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'));
begin
  update hark.acts a set affected = a.affected + $2
  where a.number = (select max(n.number) from hark.acts n) and a.act = 'cleanup' and a.detail = told
    and a.role = hark.acting_role() and a.login = session_user
    and a.person is not distinct from nullif(left(current_setting('hark.person', true), 200), '');
  if not found then
    perform hark.record_act('cleanup', null, $2, told);
  end if;
end
$$;

-- Records that a notification was published anew, by hand: `original` is the id that it was made of. For operators.
create or replace function hark.record_anew(original bigint, published bigint) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$ select hark.record_act('publish', null, 1, format('notification %s, anew as %s', $1, $2)) $$;

-- What an act's notifications were chosen by, without the values.
create or replace function hark.chosen_by(
  ids bigint[], channel text, key text, error text, from_id bigint, to_id bigint, died_after timestamptz,
  died_before timestamptz, kind text
) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(nullif(concat_ws(', ',
    case when cardinality($1) = 1 then format('notification %s', $1[1]) when $1 is not null then format('%s ids', cardinality($1)) end,
    case when $2 is not null then format('channel %s', $2) end,
    case when $3 is not null then 'by key' end, case when $4 is not null then 'by error' end,
    case when $5 is not null then format('from id %s', $5) end, case when $6 is not null then format('to id %s', $6) end,
    case when $7 is not null or $8 is not null then 'by time' end,
    case when $9 is not null then format('only %s', $9) end), ''), 'all')
$$;

-- Acts, the newest first. To go on, give the last one's number as before_number.
create or replace function hark.list_acts(
  max_rows integer default 100, before_number bigint default null, about text default null
) returns setof hark.acts
language sql stable security definer rows 100 set search_path = pg_catalog, pg_temp
as $$
  select a.* from hark.acts a
  where ($2 is null or a.number < $2) and ($3 is null or a.about = $3)
  order by a.number desc limit least($1, 10000)
$$;
comment on function hark.list_acts is 'What operators did, the newest first: by which role, which person, and when.';
