export async function mount(container, api) {
  const path = api.context.project?.path ?? "";
  const stats = await api.rpc("GET", `stats?path=${encodeURIComponent(path)}`);
  container.textContent = `${stats.totalFiles} files`;
}
export function unmount(container) {
  container.textContent = "";
}
