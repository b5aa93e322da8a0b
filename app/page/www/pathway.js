// The pathway over time, below the curves of Explore.
export const pathway = {
  start() {},
  changed() {},
};
