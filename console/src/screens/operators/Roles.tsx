import { useQuery } from "@tanstack/react-query";

import type { RoleView } from "../../api/types";
import { Mark } from "../../design/marks";
import { Await, Sheet, TableFrame } from "../../design/parts";
import { rolesQuery } from "./queries";

export function Roles() {
  const roles = useQuery(rolesQuery);
  return (
    <Await query={roles} what="the roles" permission="operator.read">
      {(list) => (
        <>
          <Sheet title="What each role is for">
            <dl className="facts">
              {list.map((one) => (
                <RoleLine key={one.role} role={one} />
              ))}
            </dl>
          </Sheet>
          <Matrix roles={list} />
        </>
      )}
    </Await>
  );
}

function RoleLine({ role }: { role: RoleView }) {
  return (
    <>
      <dt>{role.role}</dt>
      <dd>{role.description}</dd>
    </>
  );
}

function Matrix({ roles }: { roles: RoleView[] }) {
  const permissions = [...new Set(roles.flatMap((one) => one.permissions))].sort();
  return (
    <Sheet title="Permissions" bare>
      <TableFrame>
        <table className="matrix">
          <thead>
            <tr>
              <th scope="col">Permission</th>
              {roles.map((one) => (
                <th key={one.role} scope="col">
                  {one.role}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {permissions.map((permission) => (
              <tr key={permission}>
                <th scope="row" className="mono">
                  {permission}
                </th>
                {roles.map((one) => (
                  <td key={one.role}>
                    {one.permissions.includes(permission) ? (
                      <span className="state tone-good">
                        <Mark shape="check" />
                        <span className="visually-hidden">yes</span>
                      </span>
                    ) : (
                      <span className="visually-hidden">no</span>
                    )}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </TableFrame>
    </Sheet>
  );
}
