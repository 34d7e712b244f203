-- What can be watched, and by which kind of trigger.

-- A table, then all tables below it: its partitions, or the tables that inherit from it.
create or replace function hark.tree_of(relation oid) returns oid[]
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with recursive tree (relation) as (
    select $1
    union
    select i.inhrelid from tree t join pg_inherits i on i.inhparent = t.relation
  )
  select array_agg(t.relation order by t.relation = $1 desc, t.relation) from tree t
$$;

-- Whether a function is the trigger function of a watch. By this Hark tells its own triggers from others.
create or replace function hark.is_watch_function(function oid) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select exists (select from pg_proc p where p.oid = $1 and (p.proname ~ '^hark_watch_'
    or p.pronamespace = (select n.oid from pg_namespace n where n.nspname = 'hark')))
$$;

-- Which kind of trigger a watch of a table needs. Statement triggers publish all rows of a statement with
-- one insert. If these would miss rows, or publish them in another order than they were written, the watch
-- uses row triggers.
create or replace function hark.watch_mode(relation oid, replicated boolean) returns table (mode text, reason text)
language sql stable rows 1 set search_path = pg_catalog, pg_temp
as $$
  select case when r.reason is null then 'statement' when c.relkind = 'v' then 'instead' else 'row' end, r.reason
  from pg_class c
  cross join lateral (select coalesce(
    case c.relkind
      when 'v' then 'a view has no AFTER triggers for rows, so an INSTEAD OF trigger runs after the view''s own'
      when 'f' then 'a foreign table has no transition tables'
      when 'p' then 'writes to a partition do not fire statement triggers of the partitioned table; a row that moves to another partition counts as DELETE and INSERT'
    end,
    case when c.relispartition then 'writes through the partitioned table do not fire statement triggers of a partition' end,
    (select 'a write through one table of an inheritance tree does not fire statement triggers of the others'
      from pg_inherits i where c.oid in (i.inhrelid, i.inhparent) limit 1),
    case when $2 then 'rows that logical replication applies fire only row triggers' end,
    (select format('trigger %I may write to the table itself; that write would be published before its cause', t.tgname)
      from pg_trigger t
      where t.tgrelid = c.oid and not t.tgisinternal and t.tgenabled <> 'D' and t.tgtype & 66 = 0
        and not hark.is_watch_function(t.tgfoid)
      order by t.tgname limit 1),
    (with recursive caused (relation) as (
        select k.conrelid from pg_constraint k
        where k.confrelid = c.oid and k.contype = 'f'
          and (k.confdeltype in ('c', 'n', 'd') or k.confupdtype in ('c', 'n', 'd'))
        union
        select k.conrelid from caused w
        join pg_constraint k on k.confrelid = w.relation and k.contype = 'f'
          and (k.confdeltype in ('c', 'n', 'd') or k.confupdtype in ('c', 'n', 'd'))
      )
      select 'a foreign key changes rows of the table because of other rows of it; these changes would be published before their cause'
      from caused w where w.relation = c.oid),
    -- What foreign keys do within one statement arrives as one set of rows. A row may be changed twice in it,
    -- and its order cannot be followed. So this counts the ways by which a deleted or updated row of another
    -- table leads to this table.
    (with recursive above (relation) as (
        select k.confrelid from pg_constraint k where k.conrelid = c.oid and k.contype = 'f'
        union
        select k.confrelid from above w join pg_constraint k on k.conrelid = w.relation and k.contype = 'f'
      ), ways (origin, event, relation, is_update, columns, by, length) as (
        select w.relation, e.event, w.relation, e.event = 'update', null::smallint[], null::oid, 0
        from above w cross join (values ('delete'), ('update')) e (event)
        union
        select w.origin, w.event, k.conrelid, w.is_update or k.confdeltype <> 'c', k.conkey, k.oid, w.length + 1
        from ways w join pg_constraint k on k.confrelid = w.relation and k.contype = 'f'
          and case when w.is_update then k.confupdtype in ('c', 'n', 'd') and (w.columns is null or k.confkey && w.columns)
            else k.confdeltype in ('c', 'n', 'd') end
        where w.length < 8 and (w.relation <> c.oid or w.length = 0)
      )
      select format('several foreign keys change its rows when %s changes, perhaps one row twice', min(w.origin)::regclass)
      from ways w where w.relation = c.oid and w.length > 0
      group by w.origin, w.event having count(*) > 1 and bool_or(w.is_update) limit 1)
  )) r (reason)
  where c.oid = $1
$$;

-- Refuses a relation that cannot be watched, and says why.
create or replace function hark.require_watchable(relation oid) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  c record;
  named text := relation::regclass::text;
begin
  select k.relkind, k.relpersistence, k.relowner, n.nspname, k.relname into c
  from pg_class k join pg_namespace n on n.oid = k.relnamespace where k.oid = relation;
  if not found then
    raise exception 'there is no table %', named using errcode = 'undefined_table';
  elsif c.relpersistence = 't' then
    raise exception 'table % is temporary and cannot be watched', named
      using errcode = 'HK006', hint = 'Only its own session sees the table. Publish with hark.notify instead.';
  elsif c.relkind = 'm' then
    raise exception '% is a materialized view, which has no triggers', named
      using errcode = 'HK006', hint = 'Watch the tables that it selects from.';
  elsif not c.relkind = any (array['r', 'p', 'f', 'v']::"char"[]) then
    raise exception '% is not a table', named using errcode = 'HK006', hint = 'Give a table, or a view with INSTEAD OF triggers.';
  elsif c.nspname = any (array['pg_catalog', 'information_schema', 'pg_toast']) then
    raise exception '% belongs to PostgreSQL and cannot be watched', named
      using errcode = 'HK006', hint = 'System catalogs take no triggers.';
  elsif c.nspname = 'hark' then
    raise exception '% belongs to Hark: a watch would publish its own notifications without end', named
      using errcode = 'HK006', hint = 'Subscribe to the channels instead.';
  elsif c.relkind = 'v' and not exists (
    select from pg_trigger t where t.tgrelid = relation and t.tgtype & 64 <> 0 and not hark.is_watch_function(t.tgfoid)
  ) then
    raise exception 'view % has no INSTEAD OF triggers: PostgreSQL writes to its tables instead', named
      using errcode = 'HK006', hint = 'Watch the tables that it selects from.';
  elsif exists (
    select from pg_trigger t where t.tgrelid = relation and t.tgtype & 64 <> 0 and t.tgname >= '~hark_'
      and not hark.is_watch_function(t.tgfoid)
  ) then
    raise exception 'view % has an INSTEAD OF trigger whose name comes after "~hark_": a row would be published before it is written', named
      using errcode = 'HK006', hint = 'Triggers fire in the order of their names: rename it with ALTER TRIGGER.';
  elsif not pg_has_role(c.relowner, 'usage') then
    raise exception 'table % belongs to role "%"', named, pg_get_userbyid(c.relowner)
      using errcode = 'insufficient_privilege', hint = 'Only the owner of the table can watch it.';
  end if;
end
$$;

create or replace function hark.require_columns(relation oid, what text, names text[]) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  missing text;
  virtual text;
begin
  select n.name into missing from unnest(names) n (name)
  where not exists (
    select from pg_attribute a
    where a.attrelid = relation and a.attnum > 0 and not a.attisdropped and a.attname = n.name
  ) limit 1;
  select a.attname into virtual from pg_attribute a
  where a.attrelid = relation and a.attname = any (names) and a.attgenerated = 'v' and what <> 'exclude' limit 1;
  if missing is not null or array_position(names, null) is not null then
    raise exception '% names column %, which table % does not have', what, coalesce('"' || missing || '"', 'null'), relation::regclass
      using errcode = 'HK006', hint = format('Its columns are %s.', (select string_agg(quote_ident(a.attname), ', ' order by a.attnum)
        from pg_attribute a where a.attrelid = relation and a.attnum > 0 and not a.attisdropped));
  elsif virtual is not null then
    raise exception '% names column "%", a virtual generated column, which has no value in a trigger', what, virtual
      using errcode = 'HK006', hint = 'Make the column STORED, or name the columns that it is made of.';
  elsif cardinality(names) = 0 then
    raise exception '% is empty', what using errcode = 'HK006', hint = 'Name at least one column, or leave it out.';
  end if;
end
$$;

-- Looks up the names and types of a condition, as the table's owner. A literal of a user's type is made by
-- that user's functions as soon as it is read. The caller may have more rights than the owner.
create or replace function hark.require_condition(relation oid, condition text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  of record;
  probe text;
begin
  if condition is null then
    return;
  end if;
  select n.nspname, pg_get_userbyid(c.relowner) as owner into of
  from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = relation;
  probe := format('%I.%I', of.nspname, 'hark_probe_' || replace(gen_random_uuid()::text, '-', ''));
  execute format('create function %s() returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as %L',
    probe, format('declare probe refcursor; begin open probe for execute %L; close probe; end',
      format('select from %1$s as old cross join %1$s as new where case when false then (%2$s' || E'\n) end',
        hark.without_virtual(relation, format('(select (null::%s).*)', relation::regclass)), condition)));
  execute format('revoke execute on function %s() from public', probe);
  if of.owner <> current_user then
    execute format('alter function %s() owner to %I', probe, of.owner);
    execute format('grant execute on function %s() to %I', probe, current_user);
  end if;
  begin
    execute format('select %s()', probe);
  exception when others then
    raise exception 'the condition "%" cannot be used: %', left(condition, 200), sqlerrm using errcode = 'HK006',
      hint = 'Give a condition on old and new, such as new.status = ''paid''. Name the schema of functions and types that are not PostgreSQL''s own.'
        || case when hark.without_virtual(relation, '') = '' then ''
          else ' A virtual generated column has no value in a trigger: make it STORED, or name the columns that it is made of.' end;
  end;
  execute format('drop function %s()', probe);
end
$$;
