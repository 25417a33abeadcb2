import { Button, Select, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useParams } from "@tanstack/react-router";
import { type SubmitEvent, useState } from "react";

import { post, remove } from "../../api/client";
import type { Operator as OperatorView, Role } from "../../api/types";
import { Ago } from "../../design/Ago";
import { Await, Command, Empty, Facts, Notice, Page, ProblemNotice, Sheet } from "../../design/parts";
import { can, useMe } from "../../session/me";
import { quote, useCommand } from "../../shell/commandline";
import { operatorQuery, operatorSessionsQuery } from "./queries";
import { Factors, OperatorState } from "./People";
import { ROLES } from "./roles";
import { Sessions } from "./Sessions";
import "./operators.css";

export default function Operator() {
  const { name } = useParams({ from: "/signed/shell/operators/$name" });
  const operator = useQuery(operatorQuery(name));
  useCommand(`fleetward operator role ${quote(name)}`);
  return (
    <Page
      title={operator.data?.display_name || name}
      lead={operator.data && <OperatorState state={operator.data.state} />}
      actions={operator.data && <Actions operator={operator.data} />}
    >
      <Await query={operator} what="this operator" permission="operator.read">
        {(found) => (
          <div className="columns">
            <Grants operator={found} />
            <div className="stack wide">
              <Sheet title="Who">
                <Facts
                  of={[
                    ["Name", <code key="n">{found.name}</code>],
                    ["Signs in with", <Factors key="f" factors={found.factors} />],
                    ["Recovery codes left", found.factors.recovery_codes_left],
                    ["Last seen", <Ago key="l" at={found.last_seen_at} fallback="never" />],
                  ]}
                />
              </Sheet>
              <OwnSessions name={name} />
            </div>
          </div>
        )}
      </Await>
    </Page>
  );
}

function OwnSessions({ name }: { name: string }) {
  const me = useMe();
  const sessions = useQuery(operatorSessionsQuery(name));
  return (
    <Sessions
      query={sessions}
      queryKey={["operators", name, "sessions"]}
      end={can(me, "session.revoke") ? (id) => remove("/operators/{name}/sessions/{session_id}", { params: { path: { name, session_id: id } } }) : null}
    />
  );
}

function Actions({ operator }: { operator: OperatorView }) {
  const me = useMe();
  const client = useQueryClient();
  const act = useMutation({
    mutationFn: async (verb: "disable" | "enable" | "recover") => {
      const params = { path: { name: operator.name } };
      if (verb === "recover") return (await post("/operators/{name}/recover", { params })).link;
      await (verb === "disable" ? post("/operators/{name}/disable", { params, body: {} }) : post("/operators/{name}/enable", { params }));
      return null;
    },
    onSuccess: () => client.invalidateQueries({ queryKey: ["operators"] }),
  });
  const isSelf = operator.name === me.name;
  return (
    <>
      {act.isError && <ProblemNotice error={act.error} />}
      {act.data != null && (
        <div className="stack">
          <Notice tone="good">Send this link over a channel you trust. It works once.</Notice>
          <Command label="the recovery link">{act.data}</Command>
        </div>
      )}
      {!isSelf && operator.state === "active" && can(me, "operator.disable") && (
        <Button variant="default" loading={act.isPending} onClick={() => act.mutate("disable")}>
          Disable
        </Button>
      )}
      {!isSelf && operator.state === "disabled" && can(me, "operator.disable") && (
        <Button variant="default" loading={act.isPending} onClick={() => act.mutate("enable")}>
          Enable
        </Button>
      )}
      {!isSelf && operator.state === "active" && can(me, "operator.recover") && (
        <Button variant="default" loading={act.isPending} onClick={() => act.mutate("recover")}>
          Send a recovery link
        </Button>
      )}
    </>
  );
}

function Grants({ operator }: { operator: OperatorView }) {
  const me = useMe();
  const client = useQueryClient();
  const drop = useMutation({
    mutationFn: (id: string) =>
      remove("/operators/{name}/grants/{grant_id}", { params: { path: { name: operator.name, grant_id: id } } }),
    onSuccess: () => client.invalidateQueries({ queryKey: ["operators"] }),
  });
  const isSelf = operator.name === me.name;
  return (
    <Sheet title="Roles" bare>
      {drop.isError && <ProblemNotice error={drop.error} />}
      {operator.grants.length === 0 ? (
        <Empty title="No role: they may do nothing" />
      ) : (
        <table>
          <thead>
            <tr>
              <th scope="col">Role</th>
              <th scope="col">Group</th>
              <th scope="col">Last used</th>
              <th scope="col">
                <span className="visually-hidden">Remove</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {operator.grants.map((grant) => (
              <tr key={grant.id}>
                <td>{grant.role}</td>
                <td>{grant.group === "*" ? "all groups" : grant.group}</td>
                <td className="soft">
                  <Ago at={grant.last_used_at} fallback="never" />
                </td>
                <td>
                  {!isSelf && can(me, "grant.remove") && (
                    <Button variant="default" onClick={() => drop.mutate(grant.id)} aria-label={`Remove ${grant.role} in ${grant.group}`}>
                      Remove
                    </Button>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {isSelf && <footer className="soft">Nobody changes their own rights: ask another administrator.</footer>}
      {!isSelf && can(me, "grant.give") && (
        <footer>
          <GiveForm name={operator.name} />
        </footer>
      )}
    </Sheet>
  );
}

function GiveForm({ name }: { name: string }) {
  const [role, setRole] = useState<Role>("viewer");
  const [group, setGroup] = useState("*");
  const client = useQueryClient();
  const give = useMutation({
    mutationFn: () => post("/operators/{name}/grants", { params: { path: { name } }, body: { role, group } }),
    onSuccess: () => client.invalidateQueries({ queryKey: ["operators"] }),
  });
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    give.mutate();
  };
  return (
    <form className="stack" onSubmit={submit}>
      {give.isError && <ProblemNotice error={give.error} />}
      <div className="row">
        <Select
          label="Give a role"
          data={ROLES.map((one) => ({ value: one, label: one }))}
          value={role}
          allowDeselect={false}
          onChange={(value) => setRole(value ?? "viewer")}
        />
        <TextInput label="In group" required value={group} onChange={(e) => setGroup(e.currentTarget.value)} />
      </div>
      <Command label="the same command">{`fleetward operator role ${quote(name)} --give ${quote(group === "*" ? role : `${role}@${group}`)}`}</Command>
      <div className="row">
        <Button type="submit" loading={give.isPending}>
          Give
        </Button>
      </div>
    </form>
  );
}
