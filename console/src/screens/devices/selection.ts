/** Which devices a bulk act is meant for: some by name, or all that match the filter. */
export type Selection = { all: true } | { all: false; ids: ReadonlySet<string> };

export const emptySelection: Selection = { all: false, ids: new Set() };

export function isSelected(selection: Selection, id: string): boolean {
  return selection.all || selection.ids.has(id);
}

export function countSelected(selection: Selection, total: number): number {
  return selection.all ? total : selection.ids.size;
}

/** Add or take away one; taking one from "all" would need to name all others, so it starts over with none. */
export function toggle(selection: Selection, id: string): Selection {
  if (selection.all) return emptySelection;
  const ids = new Set(selection.ids);
  if (!ids.delete(id)) ids.add(id);
  return { all: false, ids };
}
