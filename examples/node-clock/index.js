// The clock's tab: shows what the server's stream of events says.

export function mount(container, api) {
  const face = document.createElement('output');
  container.replaceChildren(face);
  const events = new EventSource('/api/plugins/node-clock/rpc/events');
  events.onmessage = (event) => {
    face.textContent = JSON.parse(event.data).time;
  };
  container.stop = () => events.close();
}

export function unmount(container) {
  container.stop?.();
  container.replaceChildren();
}
