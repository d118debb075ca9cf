// The camera: its button `#camera`, its video `#video`, and its frames as pictures to send.

import { byId } from "./common.js";

const FRAME_SIDE = 640; // pixels of a frame's longer side, as sent

export class Camera {
  /** `began` and `ended` are called when it runs and when it does not any more, `refused` with the reason why not. */
  constructor(began, ended, refused) {
    Object.assign(this, { began, ended, refused, stream: null, asking: false });
    if (window.isSecureContext && navigator.mediaDevices?.getUserMedia) {
      byId("camera").hidden = false;
      byId("camera").addEventListener("click", () => (this.stream ? this.stop() : this.start()));
      addEventListener("pagehide", () => this.stop());
      document.addEventListener("visibilitychange", () => document.hidden && this.stop());
    } else {
      byId("no-camera").textContent = "The camera can be used only when this page is opened over https or on this machine itself.";
      byId("no-camera").hidden = false;
    }
  }

  async start() {
    if (this.asking) return;
    this.asking = true;
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
    } catch (problem) {
      this.refused({ message: refusal(problem), status: 400 });
      return;
    } finally {
      this.asking = false;
    }
    const video = byId("video");
    video.srcObject = this.stream;
    for (const track of this.stream.getTracks()) track.addEventListener("ended", () => this.stop());
    this.show(true);
    await video.play().catch(() => null);
    if (this.stream) this.began();
  }

  /** Release the camera. */
  stop() {
    if (!this.stream) return;
    for (const track of this.stream.getTracks()) track.stop();
    this.stream = null;
    byId("video").srcObject = null;
    this.show(false);
    this.ended();
  }

  show(on) {
    byId("video").hidden = !on;
    byId("camera").setAttribute("aria-pressed", String(on));
    byId("camera").textContent = on ? "Stop the camera" : "Use the camera";
  }

  /** What it sees now: {blob, size}, a JPEG and its pixels. */
  async frame() {
    const video = byId("video");
    const fit = Math.min(1, FRAME_SIDE / Math.max(video.videoWidth, video.videoHeight, 1));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(video.videoWidth * fit));
    canvas.height = Math.max(1, Math.round(video.videoHeight * fit));
    canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.9));
    return { blob, size: { width: canvas.width, height: canvas.height } };
  }
}

function refusal(problem) {
  return {
    NotAllowedError: "The browser was not allowed to use the camera.",
    NotFoundError: "No camera was found.",
    NotReadableError: "The camera is in use by something else.",
  }[problem.name] ?? `The camera could not be started: ${problem.message}`;
}
