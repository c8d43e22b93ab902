export function mount(container) {
  const token = localStorage.getItem("auth-token");
  const query = token ? `?token=${encodeURIComponent(token)}` : "";
  const socket = new WebSocket(`ws://${location.host}/plugin-ws/web-terminal${query}`);
  socket.onmessage = (event) => container.append(event.data);
}
export function unmount(container) {
  container.replaceChildren();
}
