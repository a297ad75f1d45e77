/** Server-sent events. Pure: pieces of a stream in, what its events say out. */
export class EventReader {
  constructor() {
    this._rest = "";
    this._data = [];
  }

  /** The data of every event that this piece of text completes. */
  feed(piece) {
    const text = this._rest + piece;
    // A "\r" at the end may be half of a line's end.
    const whole = text.endsWith("\r") ? text.slice(0, -1) : text;
    const lines = whole.split(/\r\n|\n|\r/);
    this._rest = lines.pop() + text.slice(whole.length);
    return lines.flatMap((line) => this._read(line));
  }

  _read(line) {
    if (line === "") {
      const data = this._data;
      this._data = [];
      return data.length ? [data.join("\n")] : [];
    }
    if (line.startsWith("data:")) this._data.push(line.slice(5).replace(/^ /, ""));
    return [];
  }
}
