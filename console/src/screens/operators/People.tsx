import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";

import type { Operator } from "../../api/types";
import { Ago } from "../../design/Ago";
import { State } from "../../design/marks";
import { Await, Empty, TableFrame } from "../../design/parts";
import { operatorsQuery } from "./queries";

export function People() {
  const operators = useQuery(operatorsQuery);
  return (
    <div className="sheet">
      <Await query={operators} what="operators" permission="operator.read">
        {(list) => (list.length === 0 ? <Empty title="Nobody yet" /> : <Table operators={list} />)}
      </Await>
    </div>
  );
}

function Table({ operators }: { operators: Operator[] }) {
  return (
    <TableFrame>
      <table>
        <thead>
          <tr>
            <th scope="col">Name</th>
            <th scope="col">State</th>
            <th scope="col">Roles</th>
            <th scope="col">Signs in with</th>
            <th scope="col">Last seen</th>
          </tr>
        </thead>
        <tbody>
          {operators.map((one) => (
            <tr key={one.name}>
              <td>
                <Link to="/operators/$name" params={{ name: one.name }}>
                  {one.display_name || one.name}
                </Link>
                <div className="soft small mono">{one.name}</div>
              </td>
              <td>
                <OperatorState state={one.state} />
              </td>
              <td>
                <ul className="grants">
                  {one.grants.map((grant) => (
                    <li key={grant.id}>
                      {grant.role} <span className="soft">in {grant.group === "*" ? "all groups" : grant.group}</span>
                    </li>
                  ))}
                  {one.grants.length === 0 && <li className="soft">none</li>}
                </ul>
              </td>
              <td>
                <Factors factors={one.factors} />
              </td>
              <td className="soft">
                <Ago at={one.last_seen_at} fallback="never" />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </TableFrame>
  );
}

export function OperatorState({ state }: { state: string }) {
  if (state === "active") {
    return (
      <State tone="good" shape="disc">
        active
      </State>
    );
  }
  return (
    <State tone={state === "disabled" ? "bad" : "info"} shape={state === "disabled" ? "cross" : "half"}>
      {state}
    </State>
  );
}

export function Factors({ factors }: { factors: Operator["factors"] }) {
  const found = [
    factors.passkeys > 0 ? `${factors.passkeys} passkey${factors.passkeys === 1 ? "" : "s"}` : "",
    factors.password && factors.totp ? "password and code" : "",
  ].filter((one) => one !== "");
  return found.length === 0 ? <span className="soft">nothing yet</span> : <>{found.join(", ")}</>;
}
