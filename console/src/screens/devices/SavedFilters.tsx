import { Button, Menu, Modal, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type SubmitEvent, useState } from "react";

import { post, remove } from "../../api/client";
import { ProblemNotice } from "../../design/parts";
import { type DeviceFilter, filtersQuery } from "./queries";

export function SavedFilters({ filter, onChoose }: { filter: DeviceFilter; onChoose: (filter: DeviceFilter) => void }) {
  const [isSaving, setIsSaving] = useState(false);
  const client = useQueryClient();
  const saved = useQuery(filtersQuery);
  const drop = useMutation({
    mutationFn: (id: string) => remove("/filters/{filter_id}", { params: { path: { filter_id: id } } }),
    onSuccess: () => client.invalidateQueries({ queryKey: ["filters"] }),
  });
  const isFiltered = Object.values(filter).some((value) => value !== "");
  const list = saved.data ?? [];
  return (
    <>
      <Menu>
        <Menu.Target>
          <Button variant="default">Saved filters</Button>
        </Menu.Target>
        <Menu.Dropdown>
          {list.length === 0 && <Menu.Label>None saved yet</Menu.Label>}
          {list.map((one) => (
            <Menu.Item key={one.id} onClick={() => onChoose(one.filter)}>
              {one.name}
            </Menu.Item>
          ))}
          <Menu.Divider />
          <Menu.Item disabled={!isFiltered} onClick={() => setIsSaving(true)}>
            Save this filter
          </Menu.Item>
          {list.map((one) => (
            <Menu.Item key={`drop ${one.id}`} color="danger" onClick={() => drop.mutate(one.id)}>
              Delete “{one.name}”
            </Menu.Item>
          ))}
        </Menu.Dropdown>
      </Menu>
      <Modal opened={isSaving} onClose={() => setIsSaving(false)} title="Save this filter">
        <SaveForm filter={filter} onDone={() => setIsSaving(false)} />
      </Modal>
    </>
  );
}

function SaveForm({ filter, onDone }: { filter: DeviceFilter; onDone: () => void }) {
  const [name, setName] = useState("");
  const client = useQueryClient();
  const save = useMutation({
    mutationFn: () => post("/filters", { body: { name, filter: { ...filter } } }),
    onSuccess: async () => {
      await client.invalidateQueries({ queryKey: ["filters"] });
      onDone();
    },
  });
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    save.mutate();
  };
  return (
    <form className="stack" onSubmit={submit}>
      {save.isError && <ProblemNotice error={save.error} />}
      <TextInput label="Name" required data-autofocus value={name} onChange={(e) => setName(e.currentTarget.value)} />
      <Button type="submit" loading={save.isPending}>
        Save
      </Button>
    </form>
  );
}
